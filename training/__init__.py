"""How every bundled model was made: data, captions, objectives, one script per model."""

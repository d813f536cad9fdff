"""Pictures of the page: what is worked on, opened, drawn, saved and restored."""

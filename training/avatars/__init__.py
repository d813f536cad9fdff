"""The avatars: a parametric drawing whose every parameter can be blended, and the words for it."""

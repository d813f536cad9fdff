"""Pictures of a person's own, masks, and the way between tensors and files."""

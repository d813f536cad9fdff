"""Measures of sets of pictures, computed from features [N, D] that the caller extracts."""

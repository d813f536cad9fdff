"""Every finished picture, kept by itself in a folder, and the index that finds it again."""

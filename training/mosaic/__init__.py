"""The mosaic model: a dVAE for avatars, other avatar styles, emoji, icons and clothes."""

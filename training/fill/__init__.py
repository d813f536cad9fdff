"""The fill model: a small Co-Mod-GAN for holes in avatars of many styles, emoji and icons."""

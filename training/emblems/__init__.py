"""Training of `emblems`: a DF-GAN that draws avatars, emoji and icons by their names, each in several hands."""

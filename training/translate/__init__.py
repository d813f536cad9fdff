"""Training of `hairdresser`: a small StarGAN v2 that puts the hair, or the hat, of one avatar on another."""

"""Faces that take another's hair: a small StarGAN v2, trained on drawn triples."""

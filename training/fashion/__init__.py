"""The bundled model `fashion`: a BigGAN of Fashion-MNIST (Xiao et al. 2017, MIT licence)."""

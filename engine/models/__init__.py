"""Models by name or file: the tables, downloads and store, and loading a network with its latent spaces."""

"""Where particles live: what a latent space samples, its prior, its support."""

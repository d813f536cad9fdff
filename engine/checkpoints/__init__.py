"""Files of weights: one module per format, each giving a flat mapping from key to tensor."""

from engine.checkpoints.safetensors_file import read_safetensors, verify, write_safetensors

__all__ = ["read_safetensors", "verify", "write_safetensors"]

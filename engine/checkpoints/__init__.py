"""Files of weights: one reader per format, none of which runs anything that a file holds.

`open_checkpoint` recognises a file by its content and gives a `Checkpoint`; `engine.checkpoints.building` makes
networks of it. `read_safetensors` and `write_safetensors` are for the bundled models.
"""

from engine.checkpoints.checkpoint import Checkpoint, Setting
from engine.checkpoints.opening import convert, open_checkpoint
from engine.checkpoints.refusal import Refused
from engine.checkpoints.safetensors_file import read_safetensors, verify, write_safetensors

__all__ = [
    "Checkpoint",
    "Refused",
    "Setting",
    "convert",
    "open_checkpoint",
    "read_safetensors",
    "verify",
    "write_safetensors",
]

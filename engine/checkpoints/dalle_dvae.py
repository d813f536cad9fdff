"""The two files of DALL-E's dVAE, each a whole pickled network; only its tensors are taken."""

from __future__ import annotations

from typing import Any

from engine.checkpoints.checkpoint import Parts, tensors_of
from engine.checkpoints.modules import state_of_modules
from engine.checkpoints.pickle_machine import Node

FORMAT = "whole-module dVAE file"
_ROLES = {"dall_e.encoder.Encoder": "encoder", "dall_e.decoder.Decoder": "decoder"}


def matches(value: Any) -> bool:
    return isinstance(value, Node) and value.name in _ROLES


def read(value: Node) -> Parts:
    """One network: the encoder or the decoder. The other one is in the other file."""
    role = _ROLES[value.name]
    other = "decoder" if role == "encoder" else "encoder"
    notes = (f"the {other} is in a file of its own; open the folder of both to have both",)
    return Parts(FORMAT, "dalle_dvae", {role: tensors_of(state_of_modules(value), "the file")}, notes=notes)

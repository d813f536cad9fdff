"""Prompts of the experiments: `tuning` holds those to choose settings on, `reporting` those of the tables.

A prompt of `reporting` never chose a setting, and a table of the README never reports one of `tuning`. mosaic's, of
both kinds, are in `mosaic.json`, which `python -m experiments.classes_and_codes --write-captions` draws from captions
of held-out pictures.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

Split = Literal["tuning", "reporting"]
MOSAIC = Path(__file__).with_name("mosaic.json")


class Prompt(NamedTuple):
    """`wanted`: the allowed values of every requested group."""

    text: str
    wanted: Mapping[str, tuple[str, ...]]


def asking(text: str, **wanted: str) -> Prompt:
    """A prompt for an avatar; several allowed values are written `beard|goatee`."""
    return Prompt(text, {group: tuple(values.split("|")) for group, values in wanted.items()})


def mosaic_captions(split: Split) -> tuple[dict[str, list[str]], list[str]]:
    """The prompts of each source, and captions to compare with that are of neither split."""
    drawn = json.loads(MOSAIC.read_text(encoding="utf-8"))
    return drawn[split], [text for texts in drawn["others"].values() for text in texts]

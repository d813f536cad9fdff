"""Saved pictures without a run."""

from collections.abc import Callable

import numpy as np
import pytest

from engine.pictures import png_files
from engine.settings import GenerateSettings
from gmi_ui.history.facts import Piece
from gmi_ui.pictures.saving import slug


@pytest.fixture
def piece_of() -> Callable[..., Piece]:
    """A picture as the studio saves it; each seed gives other pixels."""

    def make(prompt: str = "blue", seed: int = 1, *, parent: str = "", side: str = "ours", **settings: object) -> Piece:
        chosen = GenerateSettings(prompt=prompt, seed=seed, n=1, **settings)  # type: ignore[arg-type]
        extra = png_files.parent_extra(parent)
        metadata = png_files.picture_metadata(settings=chosen.to_dict(), seeds=[seed], index=0, models={}, extra=extra)
        pixels = np.random.default_rng(seed).integers(0, 255, (24, 32, 3)).astype(np.uint8)
        told = b'{"__metadata__":{"side":"%s","text_score":"0.25","fit":"0.5"}}' % side.encode()
        latents = len(told).to_bytes(8, "little") + told
        return Piece(png_files.encode_png(pixels, metadata), f"{slug(prompt)}_seed-{seed}", latents)

    return make

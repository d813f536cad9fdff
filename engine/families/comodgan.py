"""Co-Mod-GAN (Zhao et al. 2021): fills the holes of a picture. Opened, checked and converted, not run yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.families.declaration import Family, Network, has_keys, one_of, positive

if TYPE_CHECKING:
    from torch import nn

    from engine.families.declaration import State


def _generator(state: State, **options: Any) -> nn.Module:
    from engine.networks import comodgan

    return comodgan.generator_from_shapes(state, **options)


_ARITHMETIC = one_of(
    "arithmetic",
    ("original", "port"),
    "of the TensorFlow original, or of the PyTorch port, which lacks one of its sums",
)

FAMILY = Family(
    name="comodgan",
    label="Co-Mod-GAN",
    tasks=("inpaint",),
    networks={
        "generator": Network(
            _generator,
            has_keys("G_mapping.G_mapping.Dense0.weight G_synthesis.G_4x4.ToRGB.bias"),
            (_ARITHMETIC, positive("lr_multiplier", 0.01, "of the mapping network's layers")),
        ),
    },
    purpose="Fills holes of a picture",
)

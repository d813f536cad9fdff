"""What several families share: names of classes, and spaces of codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.errors import ModelError
from engine.families.declaration import CLASS_CHOICES

if TYPE_CHECKING:
    import torch
    from torch import nn

    from engine.families.declaration import Details
    from engine.latents.codebook import Codebook
    from engine.latents.spaces import LatentSpace

UNTOLD_SIDE = 256  # of pictures from a codebook, where nothing tells what the decoder was trained on

# Settings and figures of families whose generators are told a class. Measured with fashion: with twice that gain,
# pictures leave their class; without the discriminator 93.8 % of them stay in it, with it 95.6 %.
WITH_CLASSES: dict[str, Any] = {
    "choices": (*CLASS_CHOICES, "truncation_psi"),
    "tuned": {"diversity_gain": 2.5, "realism": 0.5},
    "raw": {"realism": 0.5},
}
# Of families whose latents are codes of a codebook. Measured with mosaic: with less pull to the codes, or larger steps,
# pictures please the prompt model more and look worse: their realism falls from that of the starts, 1.0, to .8, here
# it stays above .9.
# "paper" keeps its equations, bandwidth, ridge and weights; step and pull are mosaic's. With the step .1 and the pull 1
# of other models no code moved in 120 steps; .5, within the paper's .1 to 1, moves a code vector per step as far as
# "robust" does, and the pull is as strong beside the condition as there.
WITH_CODES: dict[str, Any] = {
    "choices": ("detail_steps", "code_order", "codebook", "cutouts", "candidates"),
    "tuned": {"step_size": 0.007, "codebook": 8.0},
    "raw": {"step_size": 0.5, "codebook": 0.1},
    "has_stages": True,
    "candidates": 512,
}


def class_names(told: tuple[str, ...], count: int) -> tuple[str, ...]:
    """The names told; ImageNet's where there are 1,000 classes and none is told; else their numbers.

    Raises ModelError where the names told are not as many as the classes.
    """
    if told and len(told) != count:
        raise ModelError(f"The generator has {count} classes, but its description names {len(told)}.")
    if told:
        return told
    if count == 1000:
        from torchvision.models import ResNet18_Weights  # about 2 seconds

        return tuple(ResNet18_Weights.DEFAULT.meta["categories"])
    return tuple(str(number) for number in range(count))


def code_spaces(book: Codebook, side: int, details: Details, *, mixtures: bool) -> dict[str, LatentSpace]:
    """Spaces of side x side codes, those that may start from the codes kept with the model.

    mixtures: also the one in which each place has a mixture of codes. Raises ModelError for kept codes of another
    decoder.
    """
    from engine.latents.codebook import CodeSpace, SoftCodeSpace, StraightThroughSpace

    kept = details.latents.get("codes")
    bank = None if kept is None else kept.long()  # files hold them in 16 bits
    if bank is not None and (bank.shape[1:] != (side, side) or int(bank.max()) >= len(book.codes)):
        raise ModelError(f"The kept codes {list(bank.shape)} do not fit {len(book.codes)} codes at {side} x {side}.")
    spaces = (CodeSpace, StraightThroughSpace, *((SoftCodeSpace,) if mixtures else ()))
    return {space.name: space(book, side, side, bank) for space in spaces}


def check_channels(channels: int, details: Details) -> None:
    """Raises ModelError for a generator whose pictures are neither coloured nor grey."""
    if channels not in (1, 3):
        raise ModelError(
            f"{details.name} draws pictures of {channels} channels; only coloured ones, of 3, and grey ones, of 1, can "
            "be shown. A generator with transparency or further channels has to be trained without them."
        )


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device

"""Pictures of the channels and pixels that a network expects: everything here has red, green and blue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

GREY, COLOUR = 1, 3


def as_colours(images: Tensor) -> Tensor:
    """Grey images [N, 1, H, W] with three equal channels; coloured ones as they are. [N, 3, H, W]"""
    return images.expand(-1, COLOUR, -1, -1) if images.shape[1] == GREY else images


@dataclass(frozen=True, eq=False)
class GreyDiscriminator:
    """A discriminator of grey pictures that takes images [N, 3, H, W], by their mean."""

    network: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor) -> Tensor:
        return self.network(images.mean(1, keepdim=True))


@dataclass(frozen=True, eq=False)
class ReducingDiscriminator:
    """A discriminator of pictures of `side` px that takes larger ones, by the means of their pixels."""

    network: Callable[[Tensor], Tensor]
    side: int

    def __call__(self, images: Tensor) -> Tensor:
        return self.network(adaptive_avg_pool2d(images, self.side) if images.shape[-1] > self.side else images)

"""Settling: w brought to the nearest place whose picture is whole, where a model says which places are.

A generator whose w is a list of traits knows what lies between two values only near the places it was trained on.
A flow ends anywhere: at a third of a hat, a quarter of each of four hair styles, a grey skin. `Settling` is the
continuous map from there to a place that can be drawn: most of the way to one value of each choice, colours
towards the named ones. A model's `latents` file may describe it:

    settle.mean, settle.deviation [w_dim]   traits = mean + deviation w
    settle.low, settle.high [w_dim]         what a trait may be
    settle.leak                             share of the gradient that passes as if nothing were settled
    settle.choice.NAME [V], settle.power.NAME       columns of w that are the weights of V values; how sharply
    settle.palette.NAME [3], settle.named.NAME [V, 3], settle.pull.NAME, settle.width.NAME      a colour
    settle.line.NAME [3], settle.corners.NAME [V, 3], settle.tolerance.NAME     a colour on the line through named ones
    settle.switches [K]                     columns that are absent (0) or present (1)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

PREFIX = "settle."
SMALLEST = 1e-9  # of a weight: a power below 1 of 0 would have no gradient


@dataclass(frozen=True, eq=False)
class Option:
    """Something that a picture has one value of.

    columns: [k] of the traits; values: [V, k]; whole: whether nothing between two values is one, as with hats; rare:
    whether pictures have the first value unless they are asked for another.
    """

    columns: Tensor
    values: Tensor
    whole: bool
    rare: bool = False

    def own(self, traits: Tensor) -> Tensor:
        """The value that each row [N, w_dim] has of itself: [N]; the nearest, and of what is rare the first."""
        if self.rare:
            return torch.zeros(len(traits), dtype=torch.long, device=traits.device)
        return torch.cdist(traits[:, self.columns], self.values).argmin(1)


@dataclass(frozen=True, eq=False)
class Choice:
    """Convex weights of values; the greatest takes nearly all, by weights ** power."""

    columns: Tensor  # [V]
    power: float

    @property
    def options(self) -> tuple[Option, ...]:
        return (Option(self.columns, torch.eye(len(self.columns)).to(self.columns.device), whole=True),)

    def settle(self, traits: Tensor) -> Tensor:
        sharp = onto_simplex(traits[..., self.columns]).clamp_min(SMALLEST) ** self.power
        return sharp / sharp.sum(-1, keepdim=True)


@dataclass(frozen=True, eq=False)
class Palette:
    """A colour, drawn by `pull` towards the named ones that are within a few `width` of it."""

    columns: Tensor  # [3]
    named: Tensor  # [V, 3]
    pull: float
    width: float

    @property
    def options(self) -> tuple[Option, ...]:
        return (Option(self.columns, self.named, whole=False),)

    def settle(self, traits: Tensor) -> Tensor:
        colour = traits[..., self.columns]
        distance = (colour[..., None, :] - self.named).square().sum(-1)
        nearest = (-distance / (2 * self.width**2)).softmax(-1) @ self.named
        return torch.lerp(colour, nearest, self.pull)


@dataclass(frozen=True, eq=False)
class Line:
    """A colour within `tolerance` of the line through `corners`, in their order."""

    columns: Tensor  # [3]
    corners: Tensor  # [V, 3]
    tolerance: float

    @property
    def options(self) -> tuple[Option, ...]:
        return (Option(self.columns, self.corners, whole=False),)

    def settle(self, traits: Tensor) -> Tensor:
        colour = traits[..., self.columns]
        along = self.corners.diff(dim=0)
        share = ((colour[..., None, :] - self.corners[:-1]) * along).sum(-1) / along.square().sum(-1)
        feet = self.corners[:-1] + share.clamp(0, 1)[..., None] * along
        nearest = (colour[..., None, :] - feet).norm(dim=-1).argmin(-1)
        foot = feet.gather(-2, nearest[..., None, None].expand(*nearest.shape, 1, 3)).squeeze(-2)
        offset = colour - foot
        return foot + offset * (self.tolerance / offset.norm(dim=-1, keepdim=True).clamp_min(1e-6)).clamp(max=1)


@dataclass(frozen=True, eq=False)
class Switches:
    """Rare traits that are absent below a quarter and present above three: a smooth step between."""

    columns: Tensor  # [K]

    @property
    def options(self) -> tuple[Option, ...]:
        values = torch.tensor([[0.0], [1.0]], device=self.columns.device)
        return tuple(Option(column, values, whole=True, rare=True) for column in self.columns.split(1))

    def settle(self, traits: Tensor) -> Tensor:
        present = (2 * traits[..., self.columns] - 0.5).clamp(0, 1)
        return present.square() * (3 - 2 * present)


@dataclass(frozen=True, eq=False)
class Settling:
    """The map of w, [..., w_dim] -> [..., w_dim]."""

    mean: Tensor  # [w_dim]
    deviation: Tensor
    low: Tensor
    high: Tensor
    leak: float
    parts: tuple[Choice | Palette | Line | Switches, ...]

    def __call__(self, w: Tensor) -> Tensor:
        traits = self.mean + self.deviation * w
        within = traits.clamp(self.low, self.high)
        result = within.clone()
        for part in self.parts:
            result[..., part.columns] = part.settle(traits if isinstance(part, Choice) else within)
        settled = (result - self.mean) / self.deviation
        # Where the picture no longer changes with w, the leak still tells the flow which way it would.
        return settled + self.leak * (w - w.detach())

    @property
    def options(self) -> tuple[Option, ...]:
        """All that a picture has one value of, part by part."""
        return tuple(option for part in self.parts for option in part.options)

    def alternatives(self, w: Tensor, option: Option) -> tuple[Tensor, Tensor]:
        """w [N, w_dim] with each value of an option: [V, N, w_dim], and which of them each row has of itself: [N].

        A row's own value is made whole where nothing between two is one; else the row stays as it is.
        """
        traits = (self.mean + self.deviation * w).clamp(self.low, self.high)
        own = option.own(traits)
        result = traits.repeat(len(option.values), 1, 1)
        result[:, :, option.columns] = option.values[:, None]
        result = (result - self.mean) / self.deviation
        if not option.whole:
            result[own, torch.arange(len(w), device=w.device)] = w
        return result, own

    @classmethod
    def from_tensors(cls, stored: Mapping[str, Tensor]) -> Self | None:
        """The map that a latents file describes; None where it describes none. KeyError names what is missing."""
        kept = {name.removeprefix(PREFIX): value for name, value in stored.items() if name.startswith(PREFIX)}
        if not kept:
            return None

        def named(kind: str) -> list[str]:
            return [name.removeprefix(f"{kind}.") for name in sorted(kept) if name.startswith(f"{kind}.")]

        def number(kind: str, name: str) -> float:
            return float(kept[f"{kind}.{name}"])

        parts: list[Choice | Palette | Line | Switches] = [
            Choice(kept[f"choice.{name}"], number("power", name)) for name in named("choice")
        ]
        parts += [
            Palette(
                kept[f"palette.{name}"], kept[f"named.{name}"], pull=number("pull", name), width=number("width", name)
            )
            for name in named("palette")
        ]
        parts += [
            Line(kept[f"line.{name}"], kept[f"corners.{name}"], number("tolerance", name)) for name in named("line")
        ]
        if "switches" in kept:
            parts.append(Switches(kept["switches"]))
        leak = float(kept["leak"])
        return cls(kept["mean"], kept["deviation"], kept["low"], kept["high"], leak, tuple(parts))


def onto_simplex(points: Tensor) -> Tensor:
    """Euclidean projection of each row [..., V] on the probability simplex (sort-and-threshold)."""
    ordered = points.sort(-1, descending=True).values
    excess = ordered.cumsum(-1) - 1
    count = torch.arange(1, points.shape[-1] + 1, device=points.device)
    support = (ordered - excess / count > 0).sum(-1, keepdim=True)
    threshold = excess.gather(-1, support - 1) / support
    return (points - threshold).clamp_min(0)

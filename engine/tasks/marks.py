"""What a person marks on the pictures of a run, while it goes on: liked ones, unlike ones, pinned ones.

Liked pictures are data of B (Eq. 5), those to be unlike anchors of A (Eq. 4), pinned particles stay as they are. What
a mark means does not change with its picture: its features are those of the step from which it counts.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from engine.inference.flow import Particles, Problem
from engine.inference.terms import References
from engine.latents.spaces import LatentSpace
from engine.settings import Mark, MarkName, Pin, SettingsError


@dataclass(frozen=True, eq=False)
class Marked:
    """The marks in force. liked, unliked: features [D] by the place of their picture; pinned: places."""

    liked: Mapping[int, Tensor] = field(default_factory=dict)
    unliked: Mapping[int, Tensor] = field(default_factory=dict)
    pinned: frozenset[int] = frozenset()

    def after(self, marks: Iterable[Mark], features: Tensor) -> Self:
        """The marks with these as well, set on or taken off pictures of these features [N, D]."""
        liked, unliked, pinned = dict(self.liked), dict(self.unliked), set(self.pinned)
        for mark in marks:
            if mark.name == "pin":
                (pinned.add if mark.is_set else pinned.discard)(mark.picture)
                continue
            ours, other = (liked, unliked) if mark.name == "like" else (unliked, liked)
            ours.pop(mark.picture, None)
            if mark.is_set:
                other.pop(mark.picture, None)
                ours[mark.picture] = features[mark.picture].detach()
        return replace(self, liked=liked, unliked=unliked, pinned=frozenset(pinned))

    def applied(self, problem: Problem) -> Problem:
        """The problem with the liked pictures among those it has, the unlike ones among the seen, and these pinned."""
        liked = _joined(None if problem.liked is None else problem.liked.features, self.liked)
        return replace(
            problem,
            liked=None if liked is None else References(liked),
            seen=_joined(problem.seen, self.unliked),
            pinned=self.pinned,
        )


def marks_on(marks: Iterable[Mark], pinned: Iterable[int] = ()) -> dict[int, frozenset[MarkName]]:
    """Which marks each picture has, by its place, after all of these; pinned: places that are from the beginning."""
    found: dict[int, frozenset[MarkName]] = {place: frozenset({"pin"}) for place in pinned}
    excluded: Mapping[MarkName, MarkName] = {"like": "unlike", "unlike": "like"}
    for mark in marks:
        own = found.get(mark.picture, frozenset()) - {mark.name}
        if mark.is_set:
            own = own - {excluded.get(mark.name, mark.name)} | {mark.name}
        found[mark.picture] = own
    return {place: names for place, names in found.items() if names}


def pinned_latent(pin: Pin, space: LatentSpace, like: Tensor) -> Tensor:
    """[*space.shape], of the kind of `like`. Raises SettingsError for a latent of another space."""
    numbers = torch.tensor(pin.numbers.tolist()).to(like)
    if numbers.numel() != math.prod(space.shape):
        raise SettingsError(
            f"pinned: a pinned latent has {numbers.numel()} numbers, but space {space.name!r} needs "
            f"{math.prod(space.shape)}. Choose the model and space that it was made with, or let it go."
        )
    return numbers.view(space.shape)


def with_pinned(particles: Particles, pins: Sequence[Pin], space: LatentSpace) -> Particles:
    """The particles with the pinned ones in their places. Raises SettingsError for latents of another space."""
    latents, seeds = particles.latents.clone(), list(particles.seeds)
    for pin in pins:
        latents[pin.place] = pinned_latent(pin, space, latents)
        seeds[pin.place] = pin.seed
    return replace(particles, latents=latents, seeds=tuple(seeds))


def _joined(rows: Tensor | None, marked: Mapping[int, Tensor]) -> Tensor | None:
    parts = ([] if rows is None else [rows]) + ([torch.stack(list(marked.values()))] if marked else [])
    return torch.cat(parts) if parts else None

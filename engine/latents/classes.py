"""The latent space of class-conditional generators, and how a prompt finds its classes.

A latent is a truncated normal z and the weights of K candidate classes. The weights stay at one class (particles
may hold different ones), or they move over the simplex of the candidates: a relaxed distribution.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Self
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.latents.spaces import SphereSpace, TruncatedNormalSpace, log_normal
from engine.settings import SettingsError

LIMIT = 2.0  # of the truncated normal that BigGANs are sampled from
CLASS_LENGTH = 0.5  # length of the class weights in the latent, relative to z: classes change as readily as z does
START_MIXTURE = 0.5  # share of the other candidates where relaxed weights begin
NEUTRAL = ("a picture", "something", "an object")  # what a prompt has to be nearer to a class than to
CLOSE_SHARE = 0.8  # how near to the closest class another has to be, on the way from those neutral words
NAMES_SHOWN = 12
SPELLED_ALIKE = 0.6  # difflib's ratio from which a name may be another's misspelling: "jacket" is no "ankle boot"
NAMES_AT_ONCE = 64  # whose features are computed together

TextFeatures = Callable[[Sequence[str]], Tensor]  # M texts -> unit vectors [M, D]


@dataclass(frozen=True)
class ClassSpace:
    """z, `blocks` times for generators that take one per block, and the weights of the candidate classes.

    Latents are [N, blocks * dim + K], the last K the weights times a length. The particle of seed s begins in the
    class classes[s mod K]. truncates: "limit" draws z from [-2 psi, 2 psi] (BigGAN), "factor" multiplies z in
    [-2, 2] by psi (BigGAN-deep, whose batch statistics also depend on psi). names: of all classes there are.
    """

    dim: int
    names: tuple[str, ...]
    classes: tuple[int, ...]
    blocks: int = 1
    relaxed: bool = False
    psi: float = 1.0
    truncates: Literal["limit", "factor"] = "limit"
    device: torch.device | str = "cpu"
    name: str = "z"

    def __post_init__(self) -> None:
        if not self.classes:
            raise SettingsError("classes: there is none; choose at least one.")
        if wrong := [number for number in self.classes if not 0 <= number < len(self.names)]:
            raise SettingsError(f"classes: {wrong[0]} is not a class; they are numbered 0 to {len(self.names) - 1}.")

    @property
    def z(self) -> TruncatedNormalSpace:
        limit = LIMIT * self.psi if self.truncates == "limit" else LIMIT
        return TruncatedNormalSpace(self.dim, limit, self.device)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.blocks * self.dim + len(self.classes),)

    @property
    def scale(self) -> float:
        return math.hypot(math.sqrt(self.blocks) * self.z.scale, self.class_length)

    @property
    def class_length(self) -> float:
        """The length of the class weights (1, 0, 0, ...) within a latent."""
        return CLASS_LENGTH * self.z.scale

    def sample(self, seeds: Sequence[int]) -> Tensor:
        own = torch.tensor([seed % len(self.classes) for seed in seeds], device=self.device)
        weights = F.one_hot(own, len(self.classes)).float()
        if self.relaxed:
            weights = torch.lerp(weights, torch.full_like(weights, 1 / len(self.classes)), START_MIXTURE)
        return torch.cat([self.z.sample(seeds).repeat(1, self.blocks), self.class_length * weights], dim=1)

    def constrain(self, latents: Tensor) -> Tensor:
        """z within its limits; weights on the simplex or, where classes stay, at its nearest corner."""
        z, weights = self._split(latents)
        inside = project_to_simplex(weights) if self.relaxed else self._corner(weights)
        return torch.cat([self.z.constrain(z), self.class_length * inside], dim=1)

    def log_prior(self, latents: Tensor) -> Tensor:
        """Of z; all mixtures of the candidates are equally likely."""
        return log_normal(self._split(latents)[0])

    def decode(self, latents: Tensor) -> Tensor:
        """[N, blocks * dim + all classes]: z as the generator takes it, then the weights of all classes."""
        z, weights = self._split(latents)
        # A class that stays has no gradient: it would only lengthen the step's, which is measured as a whole.
        weights = weights if self.relaxed else self._corner(weights.detach())
        every = weights.new_zeros(len(weights), len(self.names)).index_add(1, self._columns(), weights)
        return torch.cat([z * self.psi if self.truncates == "factor" else z, every], dim=1)

    def truncated(self, psi: float) -> Self:
        return replace(self, psi=self.psi * psi)

    def holding(self, classes: Sequence[int], *, relaxed: bool = False) -> Self:
        """The same space with other candidates. Raises SettingsError for none, or one that does not exist."""
        return replace(self, classes=tuple(classes), relaxed=relaxed)

    def weights(self, latents: Tensor) -> Tensor:
        """The candidates' weights [N, K], rows of sum 1."""
        weights = self._split(latents)[1]
        return project_to_simplex(weights) if self.relaxed else self._corner(weights)

    def _split(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        z, weights = latents.split([self.blocks * self.dim, len(self.classes)], dim=1)
        return z, weights / self.class_length

    def _corner(self, weights: Tensor) -> Tensor:
        return F.one_hot(weights.argmax(1), len(self.classes)).to(weights)

    def _columns(self) -> Tensor:
        return torch.tensor(self.classes, device=self.device)


@dataclass(frozen=True, eq=False)
class MappedClassSpace(ClassSpace):
    """StyleGAN2's Z with classes: z on the sphere, decoded with the class by the mapping network to w.

    mapping: z [N, dim] and weights of all classes [N, classes] -> w [N, w_dim]; truncation draws w to `mean` [w_dim],
    that of all classes, as StyleGAN2-ADA does.
    """

    mapping: Callable[[Tensor, Tensor], Tensor] = field(kw_only=True)
    mean: Tensor = field(kw_only=True)

    @property
    def z(self) -> SphereSpace:  # type: ignore[override]
        return SphereSpace(self.dim, self.device)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [N, dim + K] -> w [N, w_dim] = mean + psi (mapping(z, class) - mean)."""
        z, every = super().decode(latents).split([self.dim, len(self.names)], dim=1)
        return torch.lerp(self.mean, self.mapping(z, every), self.psi)


def project_to_simplex(weights: Tensor) -> Tensor:
    """The nearest weights that are not negative and sum to 1, row by row: [N, K] -> [N, K].

    Subtract a threshold and cut at zero; the threshold follows from the sorted weights. Held et al. 1974.
    """
    descending = weights.sort(dim=1, descending=True).values
    counts = torch.arange(1, weights.shape[1] + 1, device=weights.device, dtype=weights.dtype)
    thresholds = (descending.cumsum(1) - 1) / counts
    support = (descending > thresholds).sum(1, keepdim=True)
    return (weights - thresholds.gather(1, support - 1)).clamp_min(0)


class CloseClass(NamedTuple):
    """A class and the cosine of its name with the prompt."""

    number: int
    similarity: float


def rank_classes(prompt: str, names: Sequence[str], text_features: TextFeatures) -> tuple[CloseClass, ...]:
    """All classes by the similarity of their names to the prompt, the closest first."""
    similarities = (_name_features(tuple(names), text_features) @ text_features([prompt])[0]).tolist()
    ranked = sorted(range(len(names)), key=lambda number: -similarities[number])
    return tuple(CloseClass(number, similarities[number]) for number in ranked)


def _name_features(names: tuple[str, ...], text_features: TextFeatures) -> Tensor:
    """Of all names, each alone and in a sentence: [M, D]. Kept: a thousand of them take a large model a minute."""
    kept = _kept_features.setdefault(getattr(text_features, "__self__", text_features), {})
    if names not in kept:
        kept[names] = _compute_name_features(names, text_features)
    return kept[names]


# By whose features they are; forgotten with it.
_kept_features: WeakKeyDictionary[object, dict[tuple[str, ...], Tensor]] = WeakKeyDictionary()


def _compute_name_features(names: tuple[str, ...], text_features: TextFeatures) -> Tensor:
    texts = [*names, *(f"a picture of {name}" for name in names)]
    parts = [text_features(texts[start : start + NAMES_AT_ONCE]) for start in range(0, len(texts), NAMES_AT_ONCE)]
    plain, described = torch.cat(parts).split(len(names))
    return F.normalize(plain + described, dim=1)


def find_classes(
    prompt: str, names: Sequence[str], text_features: TextFeatures, *, count: int
) -> tuple[CloseClass, ...]:
    """At most `count` classes that the prompt asks for, the closest first.

    Those whose names it contains, plural or not. Where it contains none, those whose names are similar to it: closer
    than a description of nothing in particular, and at least half as much closer as the closest. Raises
    SettingsError where no class is, naming the nearest.
    """
    ranked = rank_classes(prompt, names, text_features)
    words = _words(prompt)
    if mentioned := [one for one in ranked if _words(names[one.number]) <= words]:
        return tuple(mentioned[:count])
    wanted, *neutral = text_features([prompt, *NEUTRAL])
    bar = max(float(wanted @ text) for text in neutral)
    if ranked[0].similarity <= bar:
        nearest = ", ".join(names[one.number] for one in ranked[:3])
        raise SettingsError(
            f"classes: no class is close to {prompt!r}; the nearest are {nearest}. Choose classes by name."
        )
    enough = bar + CLOSE_SHARE * (ranked[0].similarity - bar)
    return tuple(one for one in ranked[:count] if one.similarity >= enough)


def _words(text: str) -> set[str]:
    """The words in lower case without an s at the end, in which a plural and its singular are one."""
    return {word.rstrip("s") for word in re.findall(r"[\w-]+", text.lower())}


def classes_by_name(
    wanted: Sequence[str], names: Sequence[str], text_features: TextFeatures | None = None
) -> tuple[int, ...]:
    """The numbers of the classes called `wanted`, capitals aside; digits count as a number.

    Raises SettingsError for an unknown name, with the nearest ones: in letters or, where none is, in meaning.
    """
    if not wanted:
        raise SettingsError("classes: there is none; name at least one, or leave it to the prompt.")
    lowered = {name.lower(): index for index, name in reversed(list(enumerate(names)))}
    return tuple(_class_number(name.strip(), lowered, names, text_features) for name in wanted)


def _class_number(name: str, lowered: dict[str, int], names: Sequence[str], text_features: TextFeatures | None) -> int:
    if name.lower() in lowered:
        return lowered[name.lower()]
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    near = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=SPELLED_ALIKE)
    near += [candidate for candidate in lowered if set(name.lower().split()) & set(candidate.split())]
    offered = [names[lowered[candidate]] for candidate in dict.fromkeys(near)][:3]
    if not offered and text_features is not None and not name.isdecimal():
        offered = [names[one.number] for one in rank_classes(name, names, text_features)[:3]]
    shown = ", ".join(names[:NAMES_SHOWN]) + (
        f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    )
    hint = f"did you mean {' or '.join(offered)}?" if offered else f"the classes are {shown}."
    raise SettingsError(f"classes: there is no class {name!r}; {hint}")

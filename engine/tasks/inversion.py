"""Where an edit begins: the latents of a picture, and how they may vary without changing what is known of it.

A `Start` holds a picture as the generator draws it. `invert` finds one for a person's own picture: a guess (the
encoder's one w or w of each layer, or the mean w), then optimisation, first of all layers together, then of a w for
each layer (Abdal et al. 2019), with the noise where the generator has any (Karras et al. 2020, appendix D).
`start_from_latents` takes over a picture that the generator made, `start_from_ws` any w of each layer. L layers, K
whitened coordinates of w, S styles, R the generator's resolution.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.families import find_family
from engine.latents.spaces import LatentSpace, WPlusSpace
from engine.latents.styles import StyledSynthesis, noisy_layers
from engine.pictures import imaging
from engine.pictures.masks import Alpha, Mask, bounds, cut_alpha
from engine.pictures.picture_files import Box, Picture, cut, resized
from engine.settings import SettingsError
from engine.system.files import Watch

if TYPE_CHECKING:
    from engine.models.clip import PromptModel
    from engine.models.loading import GeneratorModel

STEPS_WITH_ENCODER = 60
STEPS_WITHOUT = 150
SHARED_PART = 0.6  # of the steps move one w for all layers; the rest lets the layers differ
RATE = 0.1  # of Adam, in standard deviations of w
LAYER_RATE = 0.03
NOISE_RATE = 0.02
WARM_UP = 4  # steps
LOSS_SIDE = 256  # pixels: larger pictures are compared at this size
FEATURE_WEIGHT = 2.0  # with .1, curls and spikes went smooth: 89 % of 100 renders kept all attributes, with this 97 %
LAYER_WEIGHT = 0.02  # of the squared differences between the layers
MEAN_WEIGHT = 5e-4  # of |u|^2 / K, the distance to the mean w
NOISE_WEIGHT = 1e5  # of the noise's correlation with itself one pixel further, as in StyleGAN2's projector
SMALLEST_NOISE = 8  # pixels: the coarsest size at which the noise is looked at
MASK_ROUNDS = 3  # guesses of the encoder, each with the hole filled by the one before

POSTERIOR_DIRECTIONS = 64  # of the largest variance of w
POSTERIOR_SIDE = 64  # pixels at which changes are measured
POSTERIOR_PIXELS = 16 * 128**2  # drawn together: of large pictures one at a time
POSTERIOR_MOVE = 1.0  # standard deviations of w, of the differences: a hat shows only half-way to it
TOLERANCE = 0.02  # root mean square of a change in [-1, 1] that a posterior draw may make along any one direction

BOX_SHARES = (1.0, 0.75, 0.55, 0.4)  # sides of the squares tried, of the largest one
BOX_PENALTY = 0.5  # a square of a quarter of the size must fit twice as well
BOX_PLACES = 3  # tried along each edge
BOX_SHIFTS = (0.12, 0.06, 0.03)  # of the side, when the best place is searched more finely
BOX_MOVES = 2  # at most, by each of them
BOX_NEIGHBOURS = 6  # tried for each move
SMALLEST_BOX = 64  # pixels

DISTANCE_HELP = "Mean difference of the colours, 0 (equal) to 1 (black against white)."


@dataclass(frozen=True, eq=False)
class Start:
    """A picture as the generator draws it, and where it came from.

    latents: [L, K], whitened, of W+; residual: [S], what is added to their styles: by earlier edits of single channels,
    or because an encoder's w is none that the mapping network gives; noise: by layer, where it is not the network's
    own. image, target: [1, 3, R, R] in [-1, 1], the reconstruction and what it was to be. distance: see DISTANCE_HELP,
    over what is known; in_domain: whether the generator can draw such a picture: whether the distance is at most
    `in_domain_distance`, which its model.json tells; None before the end of the search, and where nobody measured that
    of the model. seconds: since the search began.
    """

    latents: Tensor
    residual: Tensor
    image: Tensor
    target: Tensor
    noise: Mapping[str, Tensor] = field(default_factory=dict)
    picture: Picture | None = None
    box: Box | None = None
    distance: float = 0.0
    in_domain: bool | None = None
    step: int = 0
    total: int = 0
    seconds: float = 0.0


# ---- the generator as editing sees it --------------------------------------------------------------------


class Renderer:
    """A StyleGAN2 with the noise of one picture: from W+ and residual styles to images.

    Raises SettingsError for a generator of another family, which has neither W nor styles.
    """

    def __init__(self, generator: "GeneratorModel", noise: Mapping[str, Tensor] | None = None) -> None:
        space = generator.spaces.get("w+")
        if not isinstance(space, WPlusSpace):
            can = " and ".join(find_family(generator.family).possible_tasks)
            raise SettingsError(
                f"model: {generator.name} has no W+ space; only a StyleGAN2 can edit pictures. "
                f"What {generator.name} can do is {can}."
            )
        self.space = space
        self.resolution = generator.resolution
        self.synthesis = StyledSynthesis(generator.network.synthesis, noise)

    def styles(self, latents: Tensor, residual: Tensor | float = 0.0) -> Tensor:
        """Latents [N, L, K] of W+ -> styles [N, S], `residual` [S] added."""
        return self.synthesis.styles(self.space.decode(latents)) + residual

    def render(self, latents: Tensor, residual: Tensor | float = 0.0) -> Tensor:
        """Latents [N, L, K] of W+ -> images [N, 3, R, R]."""
        return self.synthesis(self.styles(latents, residual))


@torch.no_grad()
def start_from_latents(generator: "GeneratorModel", space: str | LatentSpace, latents: Tensor) -> Start:
    """The start that a finished picture of the generator is: latents [*space.shape]. Exact, no search.

    space: a name, or one of the generator's spaces that holds some of its classes. Raises SettingsError for a space
    that the generator does not have.
    """
    if isinstance(space, str) and space not in generator.spaces:
        raise SettingsError(f"space: {space!r} is unknown to {generator.name}; it has {', '.join(generator.spaces)}.")
    renderer = Renderer(generator)
    w = (generator.spaces[space] if isinstance(space, str) else space).decode(latents[None])
    ws = w[:, None].expand(-1, renderer.space.layers, -1) if w.ndim == 2 else w
    return start_from_ws(renderer, ws)


@torch.no_grad()
def start_from_ws(renderer: Renderer, ws: Tensor) -> Start:
    """The start that a w for each layer is, [1, L, w_dim], whether or not the mapping network gives such w. Exact."""
    latents, residual = _taken_over(renderer, ws)
    image = renderer.render(latents[None], residual)
    return Start(latents, residual, image, image, in_domain=True)


def _taken_over(renderer: Renderer, ws: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest latents [L, K] to ws [1, L, w_dim], and what their styles lack [S]: the range of w leaves it out."""
    u = renderer.space.whitened.statistics.whiten(ws)
    return u[0], (renderer.synthesis.styles(ws) - renderer.styles(u))[0]


def styles_of(start: Start, renderer: Renderer) -> Tensor:
    """All styles of a start, [S]."""
    return renderer.styles(start.latents[None], start.residual)[0]


# ---- the search ------------------------------------------------------------------------------------------


def invert(
    picture: Picture,
    generator: "GeneratorModel",
    *,
    prompt_model: "PromptModel | None" = None,
    box: Box | None = None,
    mask: Mask | None = None,
    steps: int | None = None,
    watch: Watch | None = None,
) -> Iterator[Start]:
    """Searches the latents of a picture; yields the guess, then what is found so far, at last the result.

    mask: what must not be looked at. box: the part of the picture that the generator is to draw; searched where
    it is None, which `watch` is told of and may end by raising. Without an encoder the search begins at the mean w,
    and `prompt_model` compares the features. Raises SettingsError for a generator that is no StyleGAN2.
    """
    began = time.perf_counter()
    renderer = Renderer(generator)
    box = box or find_box(picture, generator, mask, watch)
    target, known = _target(picture, box, mask, generator)
    comparison = Comparison(target, known, _features(generator, prompt_model, known))
    total = steps if steps is not None else STEPS_WITHOUT if generator.encoder is None else STEPS_WITH_ENCODER
    latents, residual = _beginning(renderer, guess(generator, target, known))
    search = _Search(generator, comparison, latents, residual, total)
    for step in range(total + 1):
        search.advance()
        distance = comparison.distance(search.image)
        yield Start(
            latents=search.best,
            residual=residual,
            image=search.image,
            target=target,
            noise=search.noise,
            picture=picture,
            box=box,
            distance=distance,
            in_domain=is_in_domain(distance, generator) if step == total else None,
            step=step,
            total=total,
            seconds=time.perf_counter() - began,
        )


def guessed_start(picture: Picture, generator: "GeneratorModel", *, watch: Watch | None = None) -> Start | None:
    """The encoder's guess, without a search: whether the generator can draw such a picture shows in it already.

    Of the bundled avatars' own pictures it is .01 to .02 away, of others .1 and more. None without an encoder, or where
    nobody measured the model's `in_domain_distance`.
    """
    if generator.encoder is None or generator.in_domain_distance is None:
        return None
    (start,) = invert(picture, generator, steps=0, watch=watch)
    return start


def is_in_domain(distance: float, generator: "GeneratorModel") -> bool | None:
    """Whether pictures redrawn at that distance are of the kind that the model was trained on; None: not known."""
    limit = generator.in_domain_distance
    return None if limit is None else distance <= limit


def _target(picture: Picture, box: Box, mask: Mask | None, generator: "GeneratorModel") -> tuple[Tensor, Tensor]:
    """The box at the generator's resolution, [1, 3, R, R], and how far each pixel is known, [1, 1, R, R]."""
    side, device = generator.resolution, next(generator.network.parameters()).device
    target = imaging.from_uint8(resized(cut(picture.pixels, box), side)[None]).to(device)
    hidden = np.zeros((picture.height, picture.width), bool) if mask is None else mask
    hole = to_resolution(cut_alpha(hidden.astype(np.float32), box), target)
    return target, (hole == 0).to(target)


def to_resolution(alpha: Alpha, like: Tensor) -> Tensor:
    """Alpha [side, side] at the size of the images `like`: [1, 1, R, R].

    Of several pixels the most hidden one counts: half of what a partly hidden pixel shows is the hole's.
    """
    hole, side = torch.from_numpy(np.ascontiguousarray(alpha))[None, None].to(like), like.shape[-1]
    if hole.shape[-1] > side:
        return F.adaptive_max_pool2d(hole, side)
    return F.interpolate(hole, (side, side), mode="bilinear", align_corners=False)


@torch.no_grad()
def _beginning(renderer: Renderer, guessed: Tensor) -> tuple[Tensor, Tensor]:
    """Latents [L, K] and residual styles [S] of a guess: exactly what it shows where it has a w for each layer."""
    if guessed.ndim == 3:
        return _taken_over(renderer, guessed)
    u = renderer.space.whitened.statistics.whiten(guessed)
    return u.repeat(renderer.space.layers, 1), guessed.new_zeros(renderer.synthesis.size)


@torch.no_grad()
def guess(generator: "GeneratorModel", target: Tensor, known: Tensor) -> Tensor:
    """A first w for pictures [N, 3, R, R]: the encoder's, [N, w_dim] or [N, L, w_dim], or the mean w.

    What is not known is filled by the mean colour, then by what the last guess shows there.
    """
    if generator.encoder is None or not known.any():
        return Renderer(generator).space.whitened.statistics.mean.expand(len(target), -1)
    filled = target
    if rounds := MASK_ROUNDS if (known == 0).any() else 0:
        share = known.sum((2, 3), keepdim=True).clamp_min(1)
        filled = known * target + (1 - known) * (known * target).sum((2, 3), keepdim=True) / share
    for _ in range(rounds):
        shown = _drawn(generator, _encode(generator, filled)).clamp(-1, 1)
        filled = known * target + (1 - known) * shown
    return _encode(generator, filled)


def _drawn(generator: "GeneratorModel", guessed: Tensor) -> Tensor:
    """What a guess shows, [N, 3, R, R]."""
    renderer = Renderer(generator)
    if guessed.ndim == 3:
        return renderer.synthesis(renderer.synthesis.styles(guessed))
    return generator.render(renderer.space.whitened.statistics.whiten(guessed), "w")


def _encode(generator: "GeneratorModel", images: Tensor) -> Tensor:
    """Images [N, 3, R, R] -> w [N, w_dim] or [N, L, w_dim] by the encoder."""
    assert generator.encoder is not None
    w: Tensor = generator.encoder(_to_encoder_size(generator, images))
    return w


def _to_encoder_size(generator: "GeneratorModel", images: Tensor) -> Tensor:
    side = generator.encoder_side or generator.resolution
    return F.interpolate(images, (side, side), mode="bicubic", antialias=True, align_corners=False)


def _features(
    generator: "GeneratorModel", prompt_model: "PromptModel | None", known: Tensor
) -> Callable[[Tensor], Sequence[Tensor]] | None:
    """Images -> feature maps to compare: the encoder's stages, else the prompt model's features."""
    if (known == 0).any():
        return None  # features mix what is known with what is not
    encoder = generator.encoder
    if encoder is not None and hasattr(encoder, "forward_stages"):
        stages = cast(Callable[[Tensor], Sequence[Tensor]], encoder.forward_stages)
        return lambda images: stages(_to_encoder_size(generator, images))
    if prompt_model is not None:
        model = prompt_model
        return lambda images: [model.image_features(images)]
    return None


class Comparison:
    """How far pictures are from a target [1, 3, R, R], over what is known [1, 1, R, R] of it.

    L1 of the pixels, of their averages over 4 x 4 and of their differences to the neighbours, and of features
    relative to their size.
    """

    def __init__(
        self, target: Tensor, known: Tensor, features: Callable[[Tensor], Sequence[Tensor]] | None = None
    ) -> None:
        self.target, self.known = target, known
        self._small, self._small_known = _reduced(target), (_reduced(known) == 1).to(known)
        self._features = features
        with torch.no_grad():
            self._wanted = features(target) if features else ()

    def loss(self, images: Tensor) -> Tensor:
        """[N, 3, R, R] -> [N]. What is beyond the range of colours counts as its end, but keeps its gradient."""
        images = images + (images.clamp(-1, 1) - images).detach()
        ours, theirs, known = _reduced(images), self._small, self._small_known
        loss = _mean_over(known, (ours - theirs).abs())
        coarse = (F.avg_pool2d(known * (ours - theirs), 4)).abs()
        loss = loss + 0.5 * _mean_over(F.avg_pool2d(known, 4), coarse)
        for step in ((0, 1), (1, 0)):
            both = known * _shifted(known, step)
            change = _shifted(ours, step) - ours - _shifted(theirs, step) + theirs
            loss = loss + _mean_over(both, change.abs())
        if self._features is not None:
            pairs = list(zip(self._features(images), self._wanted, strict=True))
            ratios = [(a - b).abs().flatten(1).mean(1) / b.abs().mean() for a, b in pairs]
            loss = loss + FEATURE_WEIGHT * torch.stack(ratios).mean(0)
        return loss

    @torch.no_grad()
    def distance(self, images: Tensor) -> float:
        """Mean absolute difference of the colours, in [0, 1]; see DISTANCE_HELP."""
        return _mean_over(self.known, (images.clamp(-1, 1) - self.target).abs()).mean().item() / 2


def _reduced(images: Tensor) -> Tensor:
    factor = images.shape[-1] // LOSS_SIDE
    return F.avg_pool2d(images, factor) if factor > 1 else images


def _shifted(images: Tensor, step: tuple[int, int]) -> Tensor:
    """The neighbour below or to the right of every pixel; the last row or column is its own."""
    down, right = step
    padded = F.pad(images, (0, right, 0, down), mode="replicate")
    return padded[..., down:, right:]


def _mean_over(weight: Tensor, values: Tensor) -> Tensor:
    """Mean of [N, C, H, W] by the weights [1, 1, H, W]; 0 where they are all 0. -> [N]."""
    total = weight.sum().clamp_min(1e-6) * values.shape[1]
    return (weight * values).flatten(1).sum(1) / total


class _Search:
    """Adam on one u, then on a u for every layer, and on the noise; remembers the best it saw."""

    def __init__(
        self, generator: "GeneratorModel", comparison: Comparison, latents: Tensor, residual: Tensor, total: int
    ) -> None:
        noise = noisy_layers(generator.network.synthesis)
        self._noise = {name: values.clone().requires_grad_() for name, values in noise.items()}
        self._renderer, self._comparison = Renderer(generator, self._noise), comparison
        self._residual, self._total, self._step = residual, total, 0
        self._shared = latents[0].clone().requires_grad_()
        self._offsets = (latents - latents[:1]).requires_grad_()
        self._adam = torch.optim.Adam(
            [
                {"params": [self._shared], "rate": RATE},
                {"params": [self._offsets], "rate": LAYER_RATE},
                {"params": list(self._noise.values()), "rate": NOISE_RATE},
            ],
            lr=RATE,
            betas=(0.9, 0.98),
        )
        self._lowest = math.inf
        self.best, self.image = latents, comparison.target
        self.noise: Mapping[str, Tensor] = {}

    def advance(self) -> None:
        """One step, or only a look at the picture once all are done."""
        with torch.enable_grad():
            latents = self._shared + self._offsets
            image = self._renderer.render(latents[None], self._residual)
            loss = self._comparison.loss(image)[0]
            loss = loss + MEAN_WEIGHT * latents.square().mean() + LAYER_WEIGHT * self._offsets.square().mean()
        if loss.item() < self._lowest:
            self._lowest = loss.item()
            self.best, self.image = latents.detach().clone(), image.detach()
            self.noise = {name: values.detach().clone() for name, values in self._noise.items()}
        if self._step < self._total:
            with torch.enable_grad():
                self._move(loss + NOISE_WEIGHT * noise_correlation(self._noise.values()) if self._noise else loss)

    def _move(self, loss: Tensor) -> None:
        progress = self._step / self._total
        for group in self._adam.param_groups:
            is_on = group["rate"] == RATE or progress >= SHARED_PART
            warm = min(1.0, (self._step + 1) / WARM_UP)
            group["lr"] = group["rate"] * warm * (0.51 + 0.49 * math.cos(math.pi * progress)) * is_on
        self._adam.zero_grad()
        loss.backward()
        self._adam.step()
        self._step += 1
        with torch.no_grad():
            for values in self._noise.values():
                values.sub_(values.mean()).div_(values.std())


def noise_correlation(noises: Iterable[Tensor]) -> Tensor:
    """How much noise maps resemble themselves one pixel further, at every size down to SMALLEST_NOISE: [].

    Sum over maps, sizes and both directions of mean(n * shifted n)^2 (Karras et al. 2020, appendix D); noise that
    draws the picture itself would be high here.
    """
    parts = []
    for values in noises:
        parts += [(values * values.roll(1, dimension)).mean().square() for dimension in (0, 1)]
        if values.shape[0] > SMALLEST_NOISE:
            parts.append(noise_correlation([2 * F.avg_pool2d(values[None, None], 2)[0, 0]]))
    return torch.stack(parts).sum()


# ---- which part of the picture ---------------------------------------------------------------------------


def find_box(
    picture: Picture, generator: "GeneratorModel", mask: Mask | None = None, watch: Watch | None = None
) -> Box:
    """The square of the picture that looks most like the generator's own framing, around all of the mask.

    Judged by how well one pass of the encoder redraws what is known; of two alike, the larger one. A coarse grid of
    squares, then ever smaller shifts and changes of size from the best; nothing where the largest is within the model's
    `framed_distance`. Without an encoder the largest square that
    holds the mask.
    """
    boxes = candidate_boxes(picture, mask)
    largest, tried = boxes[0], 0
    most = len(boxes) + len(BOX_SHIFTS) * BOX_MOVES * BOX_NEIGHBOURS
    if generator.encoder is None:
        return largest

    @cache
    def error(box: Box) -> float:
        """A smaller square hides less of a bad fit; what it leaves out must be paid for."""
        nonlocal tried
        if watch is not None:
            watch("Looking for the part of the picture that the model can draw", tried / most)
        tried += 1
        return _misfit(picture, box, mask, generator) * (largest.side / box.side) ** BOX_PENALTY

    if generator.framed_distance is not None and error(largest) < generator.framed_distance:
        return largest
    best = min(boxes, key=error)
    for part in BOX_SHIFTS:
        for _ in range(BOX_MOVES):
            before, best = best, min([best, *_nearby_boxes(best, part, picture, mask)], key=error)
            if best == before:
                break
    return best


@torch.no_grad()
def _misfit(picture: Picture, box: Box, mask: Mask | None, generator: "GeneratorModel") -> float:
    """How badly one pass of the encoder redraws what is known of the box."""
    target, known = _target(picture, box, mask, generator)
    return Comparison(target, known).distance(_drawn(generator, guess(generator, target, known)))


def _nearby_boxes(box: Box, part: float, picture: Picture, mask: Mask | None) -> list[Box]:
    """The box shifted by a part of its side each way, larger and smaller by as much.

    Only those that lie within the picture and hold what they must.
    """
    by, shrunk = max(1, round(part * box.side)), max(1, round(part * box.side / 2))
    moved = [Box(box.left + x, box.top + y, box.side) for x, y in ((by, 0), (-by, 0), (0, by), (0, -by))]
    scaled = [Box(box.left + d, box.top + d, box.side - 2 * d) for d in (shrunk, -shrunk)]
    (left, top, right, bottom), (width, height) = _needed(picture, mask), picture.size
    return [
        near
        for near in moved + scaled
        if near.side >= SMALLEST_BOX
        and 0 <= near.left <= left
        and 0 <= near.top <= top
        and right <= near.left + near.side <= width
        and bottom <= near.top + near.side <= height
    ]


def _needed(picture: Picture, mask: Mask | None) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what a box must hold: the mask. Turned inside out where that is nothing at all."""
    return (*picture.size, 0, 0) if mask is None or mask.all() else bounds(mask)


def candidate_boxes(picture: Picture, mask: Mask | None = None) -> list[Box]:
    """Squares to choose from, the largest first; each holds the mask, and where it can lies within the picture."""
    width, height = picture.size
    left, top, right, bottom = _needed(picture, mask)
    needed = max(right - left, bottom - top)
    largest = max(min(width, height), needed)
    sides = [largest] + [
        side for share in BOX_SHARES[1:] if (side := round(share * largest)) >= max(needed, SMALLEST_BOX)
    ]
    boxes: dict[Box, None] = {}
    for side in sides:
        for x in _places(side, width, left, right):
            for y in _places(side, height, top, bottom):
                boxes[Box(x, y, side)] = None
    return list(boxes)


def _places(side: int, length: int, start: int, stop: int) -> list[int]:
    """Where a side may begin so that it covers start...stop: the middle first, then the ends."""
    if side >= length:
        return [(length - side) // 2]
    low, high = max(stop - side, 0), min(start, length - side)
    middle = min(max((length - side) // 2, low), high)
    return list(dict.fromkeys([middle, *(low + (high - low) * i // (BOX_PLACES - 1) for i in range(BOX_PLACES))]))


# ---- how sure the latents are ----------------------------------------------------------------------------


def posterior(
    start: Start,
    renderer: Renderer,
    known: Tensor | None = None,
    *,
    tolerance: float = TOLERANCE,
    watch: Watch | None = None,
) -> Tensor:
    """A factor [K, J] of the covariance of u, the same for all layers, given what is known of the picture.

    Laplace's approximation: with the prior N(0, I) of u and independent errors of root mean square `tolerance`
    over the known pixels, the covariance is (I + J^T J / tolerance^2)^-1, J the picture's derivatives (here finite
    differences). known: [1, 1, R, R], all of it if None. Only the J <= POSTERIOR_DIRECTIONS of the largest variance
    of w take part. Kept for as long as the start is: all sides of a run begin with the same. watch: told how far it
    is, and may raise to end it.
    """
    key = (tolerance, None if known is None else known.cpu().numpy().tobytes())
    kept = _posteriors.setdefault(start, {})
    if key not in kept:
        kept[key] = _compute_posterior(start, renderer, known, tolerance, watch or (lambda doing, share: None))
    return kept[key]


_posteriors: WeakKeyDictionary[Start, dict[tuple[float, bytes | None], Tensor]] = WeakKeyDictionary()


@torch.no_grad()
def _compute_posterior(
    start: Start, renderer: Renderer, known: Tensor | None, tolerance: float, watch: Watch
) -> Tensor:
    dimensions = start.latents.shape[-1]
    count = min(POSTERIOR_DIRECTIONS, dimensions)
    basis = torch.eye(dimensions, device=start.latents.device)[:, dimensions - count :]  # factor's columns ascend
    moved = start.latents[None] + POSTERIOR_MOVE * basis.T[:, None, :]

    def small(latents: Tensor) -> Tensor:
        images = renderer.render(latents, start.residual).clamp(-1, 1)
        return F.adaptive_avg_pool2d(images, min(POSTERIOR_SIDE, images.shape[-1]))

    here = small(start.latents[None])
    weight = torch.ones_like(here[:, :1]) if known is None else F.adaptive_avg_pool2d(known, here.shape[-1])
    at_once = max(1, POSTERIOR_PIXELS // renderer.resolution**2)
    drawn: list[Tensor] = []
    for part in moved.split(at_once):
        watch("Trying how the picture may vary", len(drawn) * at_once / len(moved))
        drawn.append(small(part))
    changes = (torch.cat(drawn) - here) / POSTERIOR_MOVE
    rows = (changes * (weight / (3 * weight.sum().clamp_min(1e-6))).sqrt()).flatten(1).double()
    precision = torch.eye(count, dtype=torch.float64, device=rows.device) + rows @ rows.T / tolerance**2
    variances, directions = torch.linalg.eigh(torch.linalg.inv(precision))
    return basis @ (directions * variances.clamp_min(0).sqrt()).to(basis)

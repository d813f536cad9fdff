"""Algorithm 1: particles follow the Wasserstein gradient flow from the generated to the wanted distribution.

    z <- z + step_size * (-l1 grad A + l2 grad B + l3 grad C)                  (Zhou et al. 2022, Eq. 6)

A = log q(x|c), the particles' own density; B = log p(x); C = log p(c|x). A step costs one forward and one backward
pass of the generator whatever the terms: their gradients meet at the images, and from there one sum travels on to the
latents, or three side by side where they are normalised or repulsion gives way. Only parts that settle in turn cost
more: each length of move that one tries is one more forward pass. More particles than TOGETHER, and those of several
processes, are worked on a part at a time (`crowd`). N particles, D features.
"""

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.inference import crowd, density
from engine.inference.terms import (
    Batch,
    Coded,
    DataDensity,
    Extractor,
    LatentPrior,
    NearestCode,
    References,
    Repulsion,
    Stage,
    Term,
    apply_in_chunks,
)
from engine.latents.spaces import LatentSpace, normal_per_seed
from engine.settings import CodeOrder, Divergence, FlowSettings, Schedule, plain
from engine.system import processes

# The moves that a code tries in its turn, in the length of its moves while all move together; the first of equals is
# kept. Longer ones raise the text score further, by speckles.
TURN_LENGTHS = (4.0, 0.0, 16.0, 64.0)
VALUE_COST = 0.3  # of a step: drawing and judging the pictures with one value, without gradient
CHOICE_GAIN = 1.0  # nats of log-likelihood; at 2 fewer pictures show what was asked for, at 1/2 they differ less
# How much more liked pictures count than examples of the data. Of 8 avatars at data_weight .5 three wear glasses like
# four liked ones at 1, about as many as without any, six at 3.
LIKED_GAIN = 3.0
MARKED_COST = 1.5  # nats of log-likelihood that a particle may lose by a value for the sake of marked pictures
LIKED_SHARE = 0.3  # of `shared_by`: about what three of five liked pictures have, and no particle
DIVERGED = 100.0  # times the latent space's scale: no generator was trained there
RATIO_WEIGHTS = (0.1, 10.0)  # limits of the f-divergence's weights, whose mean is 1
SMALLEST_NORM = 1e-18  # a shorter gradient has no direction; its square is still a float32
FLAT = 1e-3  # of the longest gradient: shorter ones do not tell what is typical
LONGEST_MOVE = 4.0  # times the typical one: where most particles are nearly satisfied, the others would fly away
TOGETHER = 64  # particles whose pictures are held at once
PART = 16  # particles of a part where there are more, if nobody says otherwise
HIGHEST_MOBILITY = 100.0  # where a condition is flat, noise of its temperature knows no bounds


@dataclass(frozen=True, eq=False)
class Particles:
    """The state of the flow, and all it takes to resume: every random draw derives from (seed, step).

    latents: [N, *space.shape]; seeds: one per particle, of its start and its Langevin noise; momentum: what a method
    with a memory carries besides, such as Adam's moments; of the flow, SVGD alone has one.
    """

    latents: Tensor
    seeds: tuple[int, ...]
    step: int = 0
    momentum: Mapping[str, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.latents)


@dataclass(frozen=True, eq=False)
class Problem:
    """What the flow works on: a generator, its latent space and the log-densities of Eq. 6.

    render: latents [N, *space.shape] -> images [N, 3, H, W], nominally in [-1, 1]: what the terms look at. show: the
    same pictures as people see them, where those are larger. extractor: images -> the
    features [N, D] in which particles repel each other, diversity and text scores are measured. text: [D], None
    without words.
    conditions: the terms of C with their relative weights; data: real examples, seen by the same extractor; seen:
    features [M, D] of pictures that repel the particles as these repel each other. liked: examples that a person chose;
    they attract as `data` do, beside them. transport: what the way from the start costs. pinned: the places of
    particles that stay where they are, and repel the others all the same. seed: of the noise that all particles share.
    """

    render: Callable[[Tensor], Tensor]
    space: LatentSpace
    extractor: Extractor
    text: Tensor | None
    conditions: tuple[tuple[Term, float], ...] = ()
    data: References | None = None
    liked: References | None = None
    seen: Tensor | None = None
    transport: Term | None = None
    pinned: frozenset[int] = frozenset()
    realism: Term | None = None
    seed: int = 0
    captions: Tensor | None = None  # [M, D]: features of random texts, beside which the fit to `text` is told
    show: Callable[[Tensor], Tensor] | None = None

    def pictures(self, latents: Tensor, chunk: int | None) -> Tensor:
        """What people see of latents [N, *space.shape]: [N, 3, H, W], without a gradient."""
        return apply_in_chunks(self.show or self.render, latents, chunk)


@dataclass(frozen=True, eq=False)
class Step:
    """One state of the particles, before they move on."""

    particles: Particles
    images: Tensor  # [N, 3, H, W], nominally in [-1, 1], detached: what the terms looked at; none where `part` draws
    features: Tensor  # [N, D], detached, of the pictures as they are
    log_values: Mapping[str, Tensor]  # [N] per term in use; a second "text" is called "text 2"
    text_scores: Tensor | None  # [N], cosine of image and text features; None without words
    diversity: float  # mean over pairs of 1 - cosine of the features; 0 for one particle
    step: int
    total: int
    seconds: float  # of work since the previous step, without what the consumer took
    stage: int = 1  # 2 in the second stage, in which parts of the latents settle in turn
    fits: Tensor | None = None  # [N] in [0, 1], the share of random captions that fit worse; None without captions
    draw: Callable[[], Tensor] | None = None
    part: Callable[[int], Tensor] | None = None

    @property
    def pictures(self) -> Tensor:
        """What people see: `images`, or where those are drafts, larger ones, drawn when they are first asked for."""
        return self.images if self.draw is None else self.draw()

    def picture(self, index: int) -> Tensor:
        """What people see of one particle, [1, 3, H, W]: of many, whose pictures are not all kept, it is drawn now."""
        return self.pictures[index : index + 1] if self.part is None else self.part(index)


@runtime_checkable
class Partwise(Protocol):
    """A latent space whose latents can be settled part by part."""

    def moving(self, turn: int, turns: int, order: CodeOrder) -> Tensor:
        """The part whose turn it is: a mask that broadcasts over [N, *shape]."""
        ...

    def waiting(self, turn: int, turns: int, order: CodeOrder) -> Tensor:
        """The part whose turn is still to come: a mask likewise."""
        ...


@runtime_checkable
class Choosing(Protocol):
    """A latent space some of whose latents are values of something, such as a hat, one of which a picture has."""

    @property
    def options(self) -> Sequence[Any]: ...

    def alternatives(self, latents: Tensor, option: Any) -> tuple[Tensor, Tensor]:
        """The latents with each value of an option: [V, N, *shape], and which of them each has now: [N]."""
        ...


class DivergenceError(RuntimeError):
    """The flow left the numbers, or the generator's territory.

    last_good: the last step with usable pictures, None if there was none; setting: the field of FlowSettings
    to lower, which the message names.
    """

    def __init__(self, what: str, setting: str, settings: FlowSettings, last_good: Step | None) -> None:
        now = getattr(settings, setting)
        super().__init__(f"{what} Lower the {setting.replace('_', ' ')} (now {plain(now)}) and run again.")
        self.setting = setting
        self.last_good = last_good


Role = Literal["A", "B", "C", "prior"]


class Evaluated(NamedTuple):
    """A term in use: its part in Eq. 6, its weight there, the setting behind that weight, its values [N]."""

    role: Role
    term: Term
    weight: float
    setting: str
    log_value: Tensor


def refine(
    problem: Problem, particles: Particles, settings: FlowSettings
) -> Generator[Step, FlowSettings | None, None]:
    """Algorithm 1. Yields steps `particles.step` ... `settings.steps`, each before its particles move.

    `send(new_settings)` takes effect before the next advance. Restarting from any step's particles continues
    bit for bit. Raises DivergenceError when a value is not finite or the particles run away.
    """
    last_good: Step | None = None
    started = time.perf_counter()
    while True:
        work = _Parts if _in_parts(len(particles), settings) else _Whole
        state: _Parts | _Whole = work(problem, particles, settings, last_good)
        terms = state.evaluate(settings, last_good)
        last_good = state.describe(terms, settings, time.perf_counter() - started)

        new_settings = yield last_good

        started = time.perf_counter()
        if new_settings is not None and new_settings != settings:
            settings = new_settings
            terms = state.evaluate(settings, last_good)
        if particles.step >= settings.steps:
            return
        drift = state.drift(terms, settings, last_good)
        momentum = None
        if settings.smoothed:
            drift, momentum = _smoothed(particles, drift)
        before, is_crowd = particles, isinstance(state, _Parts)
        look = _looked_at(problem, terms, particles.step, state.chunk, is_crowd=is_crowd)
        particles = _advance(problem, particles, drift, settings, look)
        if particles.step >= settings.steps and isinstance(problem.space, Choosing):
            look = _looked_at(problem, terms, particles.step, state.chunk, is_crowd=is_crowd)
            liked = None if problem.liked is None else problem.liked.features
            chosen = chosen_values(problem.space, particles.latents, look, seen=problem.seen, liked=liked)
            particles = Particles(chosen, particles.seeds, particles.step)
        particles = replace(_held(particles, before, problem.pinned), momentum=momentum)
        _check_position(particles.latents, problem.space, settings, last_good)


def contributions(problem: Problem, particles: Particles, settings: FlowSettings) -> dict[str, Tensor]:
    """What each role adds to the velocity at the images, weight * gradient, [N, 3, H, W] each, for whoever draws it.

    With neither `normalise` nor `conflict_free` nor a divergence other than KL, their sum, pulled back through the
    generator, is the velocity of `refine`'s next move.
    """
    chunk = settings.chunk or len(particles)
    images = apply_in_chunks(problem.render, particles.latents, chunk)
    batch = Batch(particles.latents, images, step=particles.step, chunk=chunk)
    terms = _evaluate(problem, batch, settings, None)
    by_images, _ = batch.gradients([entry.log_value for entry in terms])
    return add_by_role(terms, by_images)


# ---- one state of the particles --------------------------------------------------------------------------


def _in_parts(n: int, settings: FlowSettings) -> bool:
    """Whether no more pictures are held than those of a part; a `chunk` of all particles holds them all."""
    if processes.count() > 1:
        return True
    return n > TOGETHER and (settings.chunk is None or settings.chunk < n)


class _Whole:
    """A state whose pictures are held at once. chunk: how many particles' graph is in memory, None for all."""

    def __init__(self, problem: Problem, particles: Particles, settings: FlowSettings, last_good: Step | None) -> None:
        self.chunk = _recomputed_chunk(len(particles), particles.step, settings)
        self._problem, self._particles = problem, particles
        self._generated = Stage(problem.render, particles.latents, self.chunk)
        _check_finite(self._generated.output, "The generator's pictures", "step_size", settings, last_good)
        self._batch = Batch(particles.latents, self._generated.output, step=particles.step, chunk=self.chunk)

    def evaluate(self, settings: FlowSettings, last_good: Step | None) -> list["Evaluated"]:
        return _evaluate(self._problem, self._batch, settings, last_good)

    def describe(self, terms: Sequence["Evaluated"], settings: FlowSettings, seconds: float) -> Step:
        return describe(self._problem, self._particles, self._batch, terms, settings, seconds)

    def drift(self, terms: Sequence["Evaluated"], settings: FlowSettings, last_good: Step) -> "Drift":
        return _drift(self._problem, self._batch, self._generated, terms, settings, last_good)


class _Parts:
    """A state of more particles than are drawn at once: `crowd` does its work by parts of `chunk`."""

    def __init__(self, problem: Problem, particles: Particles, settings: FlowSettings, last_good: Step | None) -> None:
        self.chunk = settings.chunk or min(PART, -(-len(particles) // processes.count()))
        self._problem, self._particles = problem, particles
        self._draw_part = lru_cache(1)(self._drawn)
        (self._features,) = self._features_by([problem.extractor])
        _check_finite(self._features, "The features of the pictures", "step_size", settings, last_good)

    def _features_by(self, extractors: Sequence[Extractor]) -> tuple[Tensor, ...]:
        return crowd.features_of(self._problem.render, extractors, self._particles.latents, self.chunk)

    def _fitted(self, term: Term) -> Term:
        """Repulsion of all particles from all, for parts of them."""
        if not isinstance(term, Repulsion):
            return term
        noisy = term.mollifying(self._particles.step)
        return term.fitted(self._features, None if noisy is None else self._features_by([noisy])[0])

    def evaluate(self, settings: FlowSettings, last_good: Step | None) -> list["Evaluated"]:
        step, latents = self._particles.step, self._particles.latents
        asked = [entry for entry in _weighted_terms(self._problem, settings, len(latents), step) if entry[2] != 0]
        terms = [self._fitted(term) for _, term, _, _ in asked]
        roles, weights = [role for role, *_ in asked], latents.new_tensor([weight for _, _, weight, _ in asked])
        sums = None if step >= settings.steps else _sums(roles, weights, settings)
        self._measured = crowd.measure(self._problem.render, terms, latents, self.chunk, sums=sums, step=step)
        evaluated = []
        for (role, _, weight, setting), term, value in zip(asked, terms, self._measured.values.unbind(1), strict=True):
            _check_finite(value, f"The log-density of {term.name!r}", setting, settings, last_good)
            evaluated.append(Evaluated(role, term, weight, setting, value))
        return evaluated

    def describe(self, terms: Sequence["Evaluated"], settings: FlowSettings, seconds: float) -> Step:
        problem, latents = self._problem, self._particles.latents
        features, none_kept = self._features, latents.new_empty((0, 3, 1, 1))
        if problem.show is not None and self._particles.step >= settings.steps:
            (features,) = crowd.features_of(problem.show, [problem.extractor], latents, self.chunk)
        draw = cache(partial(problem.pictures, latents, self.chunk))
        step = _described(problem, self._particles, none_kept, features, terms, settings, seconds)
        return replace(step, draw=draw, part=self._picture)

    def _picture(self, index: int) -> Tensor:
        part, place = divmod(index, self.chunk)
        return self._draw_part(part)[place : place + 1]

    def _drawn(self, part: int) -> Tensor:
        rows = slice(part * self.chunk, (part + 1) * self.chunk)
        return self._problem.pictures(self._particles.latents[rows], None)

    def drift(self, terms: Sequence["Evaluated"], settings: FlowSettings, last_good: Step) -> "Drift":
        """As `_drift`: lengths at the images follow from the inner products there."""
        _, products, moves, by_latents = self._measured
        if not terms:
            return _joined(self._problem, self._particles, terms, settings, {}, {}, {}, ())
        for entry, squares in zip(terms, products.diagonal(dim1=1, dim2=2).unbind(1), strict=True):
            what = f"The gradient of {entry.term.name!r}"
            _check_finite(squares, what, entry.setting, settings, last_good)
        roles: Iterable[str] = dict.fromkeys(entry.role for entry in terms)
        weights = {role: _weights_of(role, terms, like=products) for role in roles}
        raw = {role: _lengths(own.expand(len(products), -1), products) for role, own in weights.items()}
        if not settings.normalise:
            names = list(weights) if settings.conflict_free else ["all"]
            by_role = dict(zip(names, moves.unbind(1), strict=True)) if weights else {}
            return _joined(self._problem, self._particles, terms, settings, raw, raw, by_role, by_latents.unbind(1))
        units = torch.stack([_units(squares.sqrt()) for squares in products.diagonal(dim1=1, dim2=2).unbind(1)], 1)
        scaled = {role: own * units for role, own in weights.items()}
        through = {role: _lengths(own, products) for role, own in scaled.items()}
        by_role = {
            role: torch.einsum("nk,nk...->n...", own, moves) for role, own in scaled.items() if through[role].any()
        }
        own_gradients = (by_latents / self._problem.space.scale).unbind(1)
        return _joined(self._problem, self._particles, terms, settings, raw, through, by_role, own_gradients)


def _sums(roles: Sequence["Role"], weights: Tensor, settings: FlowSettings) -> Tensor:
    """Which sums of the terms' gradients go through the generator, [G, K]: each alone where they are normalised, those
    of a role where repulsion gives way, else one of all."""
    if settings.normalise:
        return torch.eye(len(weights)).to(weights)
    if not settings.conflict_free:
        return weights[None]
    return torch.stack([weights * weights.new_tensor([role == one for one in roles]) for role in dict.fromkeys(roles)])


def _weights_of(role: str, terms: Sequence["Evaluated"], *, like: Tensor) -> Tensor:
    """The weights of a role's terms, 0 for others: [K]."""
    return like.new_tensor([entry.weight if entry.role == role else 0.0 for entry in terms])


def _lengths(weights: Tensor, products: Tensor) -> Tensor:
    """Lengths of sums of K vectors, by weights [N, K] and inner products [N, K, K]: [N]."""
    return torch.einsum("nk,nkl,nl->n", weights, products, weights).clamp_min(0).sqrt()


# ---- the terms of one step -------------------------------------------------------------------------------


def _recomputed_chunk(n: int, step: int, settings: FlowSettings) -> int | None:
    """None to keep one graph over all particles; the last step, which does not move on, keeps none either."""
    chunk = min(settings.chunk or n, n)
    return chunk if chunk < n or step >= settings.steps else None


def _evaluate(problem: Problem, batch: Batch, settings: FlowSettings, last_good: Step | None) -> list[Evaluated]:
    """The terms whose weight is not zero at this step, with their values."""
    evaluated = []
    for role, term, weight, setting in _weighted_terms(problem, settings, len(batch), batch.step):
        if weight != 0:
            with torch.enable_grad():  # the consumer may iterate under no_grad
                value = term.log_value(batch)
            _check_finite(value, f"The log-density of {term.name!r}", setting, settings, last_good)
            evaluated.append(Evaluated(role, term, weight, setting, value))
    return evaluated


def _weighted_terms(
    problem: Problem, settings: FlowSettings, n: int, step: int
) -> Iterator[tuple[Role, Term, float, str]]:
    """-l1 A + l2 B + l3 C, and the latent prior."""
    how = _estimation(problem, settings, step)
    repulsion = Repulsion(problem.extractor, problem.seen, **how)
    l1 = settings.diversity * settings.diversity_gain
    diversity = scheduled(l1, settings.diversity_schedule, step, settings.steps)
    is_alone = n == 1 and problem.seen is None  # then it has nothing to repel
    yield "A", repulsion, 0.0 if is_alone else -diversity, "diversity"
    if problem.data is not None:
        yield "B", DataDensity(problem.extractor, problem.data, **how), settings.data_weight, "data_weight"
    if problem.liked is not None:
        liked = DataDensity(problem.extractor, problem.liked, name="liked", **how)
        yield "B", liked, LIKED_GAIN * settings.data_weight, "data_weight"
    for term, weight in problem.conditions:
        yield "C", term, weight * settings.condition_weight, "condition_weight"
    if problem.realism is not None:
        yield "C", problem.realism, settings.realism, "realism"
    yield "prior", LatentPrior(problem.space), settings.prior, "prior"
    if problem.transport is not None:
        yield "prior", problem.transport, settings.transport, "transport"
    if isinstance(problem.space, Coded):
        yield "prior", NearestCode(problem.space), settings.codebook, "codebook"


def _estimation(problem: Problem, settings: FlowSettings, step: int) -> dict[str, Any]:
    """The fields of `terms.Estimated`: A and B are estimated alike."""
    return {
        "estimator": settings.estimator,
        "bandwidth": settings.bandwidth,
        "eta": settings.eta,
        "mollifier": scheduled(settings.mollifier, "linear", step, settings.steps),
        "mollifier_space": settings.mollifier_space,
        "mollifier_samples": settings.mollifier_samples,
        "seed": problem.seed,
    }


def scheduled(value: float, schedule: Schedule, step: int, steps: int) -> float:
    """`value` at this step: the same throughout, or falling in a line to 0 at the last step."""
    return value if schedule == "constant" else value * max(0.0, 1 - step / steps)


# ---- their sum -------------------------------------------------------------------------------------------


class Drift(NamedTuple):
    """Where the particles go: sum of weight * gradient, [N, *space.shape], and what moves them at random.

    With `normalise`, the velocity is in units of the latent space's scale. `mobility`, [], is by how much the
    normalisation lengthens the condition's gradient: noise of one temperature grows with its root (Einstein).
    """

    velocity: Tensor
    mobility: Tensor


def _drift(
    problem: Problem,
    batch: Batch,
    generated: Stage,
    terms: Sequence[Evaluated],
    settings: FlowSettings,
    last_good: Step,
) -> Drift:
    """The terms' gradients, summed.

    The terms of one role (A, B or C) are added at the images. Where lengths or directions are compared, the roles go
    through the generator side by side, in one backward pass of several cotangents: how far two moves go and whether
    they oppose each other are questions about latents, and the answers at the images are others. Otherwise their
    sum does.
    """
    by_images, by_latents = batch.gradients([entry.log_value for entry in terms])
    for entry, gradient in zip(terms, by_images, strict=True):
        what = f"The gradient of {entry.term.name!r}"
        _check_finite(gradient, what, entry.setting, settings, last_good)
    raw = {role: _norms(sums) for role, sums in add_by_role(terms, by_images).items()}
    if settings.normalise:
        by_images = [normalised(gradient) for gradient in by_images]
        # A prior pulls like a spring: its gradient, typically as long as a latent, stays small at the mean.
        by_latents = [gradient / problem.space.scale for gradient in by_latents]
    through_images = {role: sums for role, sums in add_by_role(terms, by_images).items() if sums.any()}
    if through_images and not (settings.normalise or settings.conflict_free):
        through_images = {"all": torch.stack(list(through_images.values())).sum(0)}
    moves = dict(zip(through_images, generated.pull_back(list(through_images.values())), strict=True))
    through = {role: _norms(sums) for role, sums in through_images.items()}
    particles = Particles(batch.latents.detach(), (), batch.step)
    return _joined(problem, particles, terms, settings, raw, through, moves, by_latents)


def _joined(
    problem: Problem,
    particles: Particles,
    terms: Sequence[Evaluated],
    settings: FlowSettings,
    raw: Mapping[str, Tensor],
    through: Mapping[str, Tensor],
    moves: dict[str, Tensor],
    by_latents: Sequence[Tensor],
) -> Drift:
    """The moves of the roles as one, with what terms take from the latents directly: `by_latents`, each [N, *shape].

    moves: through the generator; through, raw: lengths [N], at the images, of what went there, and of the same before
    it was normalised.
    """
    latents, space = particles.latents, problem.space
    mobility = latents.new_ones(())
    if settings.normalise:
        if "C" in moves:
            gain = _typical(through["C"]).square() / (_typical(raw["C"]) * typical_norm(moves["C"]))
            mobility = (space.scale * gain).clamp_max(HIGHEST_MOBILITY)
        # Only the generator's own gain is divided out: how long the sum of a role's terms is still counts.
        moves = {role: normalised(move) * _typical(through[role]) for role, move in moves.items()}
        if (turn := _turn(space, particles.step, settings)) is not None:
            moves = {role: concentrated(move, turn.moving) for role, move in moves.items()}
    for role, move in add_by_role(terms, by_latents).items():
        moves[role] = moves[role] + move if role in moves else move
    if settings.conflict_free and "A" in moves and "C" in moves:
        moves["A"] = without_opposition(moves["A"], moves["C"], kept=settings.kept_opposition)
    still = torch.zeros_like(latents)
    prior = moves.pop("prior", still)
    velocity = prior + ratio_weights(terms, settings.divergence, like=still) * sum(moves.values(), still)
    return Drift(velocity, mobility)


def _smoothed(particles: Particles, drift: Drift) -> tuple[Drift, dict[str, Tensor]]:
    """The drift as SVGD has it, of particles that follow all others' too, and what Adagrad carries to the next step."""
    score = drift.velocity.flatten(1)
    before = None if particles.momentum is None else particles.momentum["squares"]
    move, squares = density.adagrad(density.smoothed_score(particles.latents.flatten(1), score), before)
    return drift._replace(velocity=move.view_as(drift.velocity)), {"squares": squares}


def normalised(gradient: Tensor) -> Tensor:
    """`gradient` [N, ...] in units of its typical length; none is longer than LONGEST_MOVE.

    A condition that most particles nearly satisfy is nearly flat there, and the others' gradients are long in units
    of theirs.
    """
    units = gradient / typical_norm(gradient)
    lengths = units.flatten(1).norm(dim=1).view(-1, *[1] * (gradient.dim() - 1))
    return units * (LONGEST_MOVE / lengths.clamp_min(LONGEST_MOVE))


def typical_norm(gradient: Tensor) -> Tensor:
    """Median of |gradient_i| over the particles that still have somewhere to go, never zero: [N, ...] -> [].

    A gradient FLAT times as long as the longest is that of a particle whose condition is satisfied.
    """
    return _typical(_norms(gradient))


def _norms(gradient: Tensor) -> Tensor:
    """[N, ...] -> [N]"""
    return gradient.flatten(1).norm(dim=1)


def _typical(norms: Tensor) -> Tensor:
    """`typical_norm` of gradients of these lengths [N]."""
    return norms[norms >= FLAT * norms.amax()].quantile(0.5).clamp_min(SMALLEST_NORM)


def _units(norms: Tensor) -> Tensor:
    """What `normalised` multiplies gradients of these lengths by: [N]."""
    typical = _typical(norms)
    return LONGEST_MOVE / (norms / typical).clamp_min(LONGEST_MOVE) / typical


def add_by_role(terms: Sequence[Evaluated], gradients: Sequence[Tensor]) -> dict[str, Tensor]:
    """The weighted sum of the gradients of each role that has terms."""
    sums: dict[str, Tensor] = {}
    for entry, gradient in zip(terms, gradients, strict=True):
        move = entry.weight * gradient
        sums[entry.role] = sums[entry.role] + move if entry.role in sums else move
    return sums


def without_opposition(move: Tensor, condition: Tensor, *, kept: float = 0.0) -> Tensor:
    """`move` with the share `kept` of its component against `condition`, particle by particle; both [N, ...].

    Where <move, condition> is negative it becomes `kept` times that; elsewhere the move stays as it is.

    Beyond the paper, and a heuristic for runs of tens of steps: with kept = 0 the particles no longer flow to
    p(x|c). Nothing then holds them apart in a direction that the condition judges, and however strong the repulsion,
    they end where the condition is highest: for C = log N(0, 1) with a standard deviation of .00 in place of the .78
    of 8 particles that repel each other freely. In one dimension kept = k is a repulsion k times as strong, which
    ends at p(x|c)^(1/k). `experiments.stationary` measures both.
    """
    m, c = move.flatten(1), condition.flatten(1)
    share = (m * c).sum(1, keepdim=True) / c.square().sum(1, keepdim=True).clamp_min(SMALLEST_NORM**2)
    return (m - (1 - kept) * share.clamp_max(0) * c).view_as(move)


class Turn(NamedTuple):
    """Masks over the latents: of the part whose turn it is, and of those whose turn is still to come."""

    moving: Tensor
    waiting: Tensor


def _turn(space: LatentSpace, step: int, settings: FlowSettings) -> Turn | None:
    """Whose turn the move from `step` is; None while all parts move together."""
    turn = settings.turn(step)
    if turn is None or not isinstance(space, Partwise):
        return None
    which = (turn, settings.detail_steps, settings.code_order)
    return Turn(space.moving(*which), space.waiting(*which))


def concentrated(move: Tensor, mask: Tensor) -> Tensor:
    """`move` [N, ...] with each coordinate under the mask as long as typically in the whole."""
    part = move * mask
    share = float(mask.float().mean())
    return torch.where(mask, part * (math.sqrt(share) * typical_norm(move) / typical_norm(part)), move)


def ratio_weights(terms: Sequence[Evaluated], divergence: Divergence, *, like: Tensor) -> Tensor:
    """The f-divergence's weights rho(r_i), r = exp(B + C - A), of mean 1, clipped: [N, 1, ...].

    KL: 1; reverse KL: r; Jensen-Shannon: r / (2 (1 + r)); Hellinger: sqrt(r) / 2. Of the terms in use each counts
    once, whatever its weight in the drift, but for the sign; the latent prior is no part of r and is not weighted
    by it. The log-values lack their constants, so log r counts from its median.
    """
    log_values = [math.copysign(1, entry.weight) * entry.log_value.detach() for entry in terms if entry.role != "prior"]
    if divergence == "kl" or not log_values:
        return torch.ones((), dtype=like.dtype, device=like.device)
    log_r = torch.stack(log_values).sum(0)
    log_r = log_r - log_r.quantile(0.5)
    log_rho = {"reverse_kl": log_r, "js": F.logsigmoid(log_r), "hellinger": log_r / 2}[divergence]
    rho = len(log_rho) * log_rho.softmax(0)
    return rho.clamp(*RATIO_WEIGHTS).to(like.dtype).view(-1, *[1] * (like.dim() - 1))


# ---- the particles' move ---------------------------------------------------------------------------------


@torch.no_grad()
def _advance(
    problem: Problem,
    particles: Particles,
    drift: Drift,
    settings: FlowSettings,
    look: Callable[[Tensor], "Looked"],
) -> Particles:
    """The particles one step on: all parts of their latents together, or one in its turn.

    A part moves no more after its turn, and those to come make up for what settling it costs. With `normalise` it
    tries moves of several lengths, and each particle keeps what makes its condition most likely.
    """
    space = problem.space
    moved = _moved(space, particles, drift, scheduled_step(settings, particles.step), settings)
    turn = _turn(space, particles.step, settings)
    if turn is None:
        return Particles(moved, particles.seeds, particles.step + 1)
    moved = torch.where(turn.waiting, moved, particles.latents)
    # Parts move equally far in their turns, whenever those are.
    step_size = scheduled_step(settings, settings.steps - settings.detail_steps)

    def end(length: float) -> Tensor:
        settled = _moved(space, particles, drift, length * step_size, settings)
        if isinstance(space, Coded):
            settled = space.snapped(settled, _settled_share(settings))
        return torch.where(turn.moving, settled, moved)

    ends = map(end, TURN_LENGTHS if settings.normalise else (1.0,))
    likeliest = _likeliest(ends, lambda latents: look(latents).merit)
    return Particles(likeliest, particles.seeds, particles.step + 1)


def _held(particles: Particles, before: Particles, pinned: frozenset[int]) -> Particles:
    """The particles, the pinned ones where they were before, bit for bit."""
    if not pinned:
        return particles
    places = sorted(pinned)
    latents = particles.latents.clone()
    latents[places] = before.latents[places]
    return replace(particles, latents=latents)


class Looked(NamedTuple):
    """Of latents [N, *shape]. merit: [N], the weighted log-likelihood of the conditions in use, of the data where none
    is; features: gives [N, D]."""

    merit: Tensor
    features: Callable[[], Tensor]


def _looked_at(
    problem: Problem, terms: Sequence[Evaluated], step: int, chunk: int | None, *, is_crowd: bool
) -> Callable[[Tensor], Looked]:
    role = "C" if any(entry.role == "C" for entry in terms) else "B"
    asked = [entry for entry in terms if entry.role == role]

    def look(latents: Tensor) -> Looked:
        if chunk is not None and is_crowd:
            terms_asked = [entry.term for entry in asked]
            found = crowd.measure(problem.render, terms_asked, latents, chunk, sums=None, step=step).values
            merit = found @ found.new_tensor([entry.weight for entry in asked])
            return Looked(merit, lambda: crowd.features_of(problem.render, [problem.extractor], latents, chunk)[0])
        images = apply_in_chunks(problem.render, latents, chunk)
        batch = Batch(latents, images, step=step, chunk=chunk or len(latents))
        values = [entry.weight * entry.term.log_value(batch) for entry in asked]
        merit = sum(values, latents.new_zeros(len(latents)))
        return Looked(merit, partial(batch.constant_features, problem.extractor))

    return look


def ending_cost(space: LatentSpace) -> float:
    """How many steps' time a run takes beyond its steps, to choose whole values."""
    return VALUE_COST * sum(len(option.values) for option in space.options) if isinstance(space, Choosing) else 0.0


@torch.no_grad()
def chosen_values(
    space: Choosing,
    latents: Tensor,
    look: Callable[[Tensor], Looked],
    *,
    seen: Tensor | None = None,
    liked: Tensor | None = None,
) -> Tensor:
    """The latents [N, ...] with one whole value of each option, where a run ends.

    Between two hats a picture shows neither, and the gradient that would lead on to one of them may point to another.
    A particle keeps its own value, unless its condition gains CHOICE_GAIN by another: so it shows what was asked for,
    and what nobody asked for stays as different as repulsion has made it, but for what is rare. Of values that cost it
    at most MARKED_COST it takes one that `liked` pictures share (features [M, D], see `liked_values`), or that makes it
    least like those `seen` (`unlike_values`).
    """
    for option in space.options:
        candidates, own = space.alternatives(latents, option)
        looked = [look(candidate) for candidate in candidates]
        merits = torch.stack([one.merit for one in looked])
        highest, best = merits.max(0)
        gain = highest - merits.gather(0, own[None])[0]
        taken = torch.where(gain > CHOICE_GAIN, best, own)
        if liked is not None or seen is not None:
            features = F.normalize(torch.stack([one.features() for one in looked]), dim=2)
            allowed = merits >= merits.gather(0, taken[None]) - MARKED_COST
            if liked is not None:
                taken = liked_values(features, allowed, taken, liked)
                allowed = allowed & (shared_by(features, taken, liked) >= -LIKED_SHARE)
            if seen is not None:
                taken = unlike_values(features, allowed, taken, seen)
        latents = candidates[taken, torch.arange(len(latents), device=latents.device)]
    return latents


def shared_by(features: Tensor, taken: Tensor, liked: Tensor) -> Tensor:
    """How much the liked pictures have of each value rather than of that taken: <d, m> / |d|^2, [V, N].

    d is the move of a particle's feature by the value, m the mean of the liked features [M, D], at unit length. Where
    values add up orthogonally in features, as long each, that is half of by how much larger a share of the liked
    pictures has it. features: [V, N, D] with each value, of unit length; taken: [N].
    """
    mean = F.normalize(liked.to(features), dim=1).mean(0)
    moves = features - features[taken, torch.arange(len(taken), device=taken.device)]
    return (moves @ mean) / moves.square().sum(2).clamp_min(SMALLEST_NORM)


def liked_values(features: Tensor, allowed: Tensor, taken: Tensor, liked: Tensor) -> Tensor:
    """Of the allowed values [V, N] that the liked pictures share, `shared_by` more than LIKED_SHARE, the one that
    brings a particle nearest to their mean; else that taken: [N].

    A heuristic beyond the paper: what one of them alone has is no reason to be like it.
    """
    mean = F.normalize(liked.to(features), dim=1).mean(0)
    nearness = (features @ mean).where(allowed & (shared_by(features, taken, liked) > LIKED_SHARE), -torch.inf)
    highest, most = nearness.max(0)
    return torch.where(highest.isfinite(), most, taken)


def unlike_values(features: Tensor, allowed: Tensor, taken: Tensor, seen: Tensor) -> Tensor:
    """Of the allowed values [V, N] that which makes each particle least like what was seen: [N].

    One particle after the other takes the value whose largest cosine to the features seen, [M, D], and to those of the
    other particles is the smallest, as in farthest-point selection (Gonzalez 1985). A heuristic beyond the paper.
    features: [V, N, D], with each value, of unit length; taken: [N], what each particle has otherwise.
    """
    known, taken = F.normalize(seen.to(features), dim=1), taken.clone()
    places = torch.arange(len(taken), device=taken.device)
    for place in places.tolist():
        others = features[taken, places][places != place]
        likeness = (features[:, place] @ torch.cat([known, others]).T).amax(1)
        taken[place] = likeness.where(allowed[:, place], torch.inf).argmin()
    return taken


def _settled_share(settings: FlowSettings) -> float:
    """How much of the way to the nearest code a part goes in its turn; raw weights, of any scale, go all of it."""
    return min(1.0, settings.codebook) if settings.normalise else float(settings.codebook > 0)


def _likeliest(candidates: Iterable[Tensor], merit: Callable[[Tensor], Tensor]) -> Tensor:
    """Of the candidates [N, ...] each particle's of highest merit [N], the first of equals; two are held at a time."""
    rest = iter(candidates)
    best = next(rest)
    highest = merit(best)
    for latents in rest:
        found = merit(latents)
        best = torch.where((found > highest).view(-1, *[1] * (latents.dim() - 1)), latents, best)
        highest = torch.maximum(highest, found)
    return best


def scheduled_step(settings: FlowSettings, step: int) -> float:
    """The step size of the move from `step`."""
    return scheduled(settings.step_size, settings.step_schedule, step, settings.steps)


def _moved(space: LatentSpace, particles: Particles, drift: Drift, step_size: float, settings: FlowSettings) -> Tensor:
    """z + step_size * velocity + sqrt(2 step_size * mobility * langevin) * noise, constrained: [N, *space.shape].

    Without repulsion and at small steps particles then sample exp(log-densities / langevin). With `normalise` this
    holds for conditions alone and for the latent prior alone; where both act, the prior's share is as much larger
    as the condition's gradient was shortened. The mobility is the batch's: few particles in few dimensions disturb it.
    """
    unit = space.scale if settings.normalise else 1.0
    moved = particles.latents + step_size * unit * drift.velocity
    if settings.langevin > 0:
        noise = normal_per_seed(space.shape, purpose="noise", seeds=particles.seeds, step=particles.step).to(moved)
        moved = moved + (2 * step_size * settings.langevin * drift.mobility).sqrt() * noise
    return space.constrain(moved) if settings.constrain else moved


# ---- what the consumer sees ------------------------------------------------------------------------------


def describe(
    problem: Problem,
    particles: Particles,
    batch: Batch,
    terms: Sequence[Evaluated],
    settings: FlowSettings,
    seconds: float,
) -> Step:
    """What the consumer sees of the particles; `batch` and `terms` as they were evaluated at them.

    Where the terms look at drafts, the last step's features and scores are those of the pictures themselves.
    """
    draw = None
    if problem.show is not None:
        chunk = min(settings.chunk or len(particles), len(particles))
        draw = cache(partial(problem.pictures, particles.latents, chunk))
    if draw is not None and particles.step >= settings.steps:
        features = apply_in_chunks(problem.extractor, draw(), chunk)
    else:
        features = batch.constant_features(problem.extractor)
    step = _described(problem, particles, batch.images.detach(), features, terms, settings, seconds)
    return replace(step, draw=draw)


def _described(
    problem: Problem,
    particles: Particles,
    images: Tensor,
    features: Tensor,
    terms: Sequence[Evaluated],
    settings: FlowSettings,
    seconds: float,
) -> Step:
    text_scores = fits = None
    if problem.text is not None:
        text_scores = torch.cosine_similarity(features, problem.text[None])
        fits = None if problem.captions is None else share_of_worse(features, text_scores, problem.captions)
    return Step(
        particles=particles,
        images=images,
        features=features,
        log_values=named_values(terms),
        text_scores=text_scores,
        diversity=pairwise_diversity(features),
        step=particles.step,
        total=settings.steps,
        seconds=seconds,
        stage=settings.stage(particles.step) if isinstance(problem.space, Partwise) else 1,
        fits=fits,
    )


def share_of_worse(features: Tensor, text_scores: Tensor, captions: Tensor) -> Tensor:
    """The share of captions [M, D] that fit a picture [N, D] worse than its text does: [N]."""
    cosines = F.normalize(features, dim=1) @ F.normalize(captions.to(features), dim=1).T
    return (cosines < text_scores[:, None]).to(features.dtype).mean(1)


def named_values(terms: Sequence[Evaluated]) -> dict[str, Tensor]:
    """The log-values [N] by their terms' names; of terms that share one, the second is called "name 2"."""
    values: dict[str, Tensor] = {}
    for entry in terms:
        name, number = entry.term.name, 1
        while name in values:
            number += 1
            name = f"{entry.term.name} {number}"
        values[name] = entry.log_value.detach()
    return values


def pairwise_diversity(features: Tensor) -> float:
    """Mean over pairs of 1 - cosine, 0 for a single particle. features: [N, D]."""
    n = len(features)
    if n < 2:
        return 0.0
    directions = F.normalize(features.to("cpu", torch.float64), dim=1)
    return 1 - (directions.sum(0).square().sum().item() - n) / (n * (n - 1))


def _check_finite(values: Tensor, what: str, setting: str, settings: FlowSettings, last_good: Step | None) -> None:
    if not values.isfinite().all():
        raise DivergenceError(f"{what} no longer consist of numbers.", setting, settings, last_good)


def _check_position(latents: Tensor, space: LatentSpace, settings: FlowSettings, last_good: Step) -> None:
    _check_finite(latents, "The particles' latents", "step_size", settings, last_good)
    if latents.flatten(1).norm(dim=1).amax() > DIVERGED * space.scale:
        raise DivergenceError("The particles ran away.", "step_size", settings, last_good)

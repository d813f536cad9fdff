"""What others' samplers take besides the flow: a discriminator, its steepest slope, starts chosen by its ratios."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from engine.families.declaration import SEARCHING
from engine.inference import crowd
from engine.inference.flow import Problem
from engine.inference.terms import Term
from engine.latents.classes import ClassSpace
from engine.latents.spaces import LatentSpace, seeded
from engine.samplers import rejection
from engine.samplers.transport import lipschitz
from engine.settings import SAMPLERS, FlowSettings, GenerateSettings, Selection, SettingsError
from engine.system.files import Watch
from engine.tasks.task import GeneratorLike, particle_seeds

NAMES = {"dot": "DOT", "ddls": "DDLS", "dgflow": "DGflow", "svgd": "SVGD"}
SELECTIONS = {"sir": "SIR", "drs": "DRS", "mh": "MH-GAN"}
AT_ONCE = 32  # pictures
SLOPE_SEEDS = 64  # whose latents the steepest slope is taken between


def check_sampler(settings: GenerateSettings, model: GeneratorLike) -> None:
    """Raises SettingsError where the settings name a sampler that needs a discriminator, and the model has none."""
    if model.discriminator is not None:
        return
    if settings.choose:
        raise SettingsError(
            f"choose: {SELECTIONS[settings.choose]} chooses by a discriminator, and {settings.model} comes without "
            "one. Leave the starts as they are drawn, or take a model with a discriminator, such as fashion."
        )
    if settings.preset in SAMPLERS and not (settings.preset == "svgd" and settings.prompt):
        raise SettingsError(
            f"preset: {NAMES[settings.preset]} follows a discriminator, and {settings.model} comes without one. Choose "
            "another preset, or a model with a discriminator, such as fashion."
        )


def steepest(problem: Problem, flow: FlowSettings) -> float:
    """k_eff of Tanaka 2019: of pairs of latents the greatest difference of C, by their distance; 1 where C is flat.

    C is the flow's conditions with their weights. Of classes only latents of one are compared, as conditional DOT does.
    """
    space = problem.space
    latents = space.sample(range(SLOPE_SEEDS))
    owns = _classes(space, latents)
    terms = [(term, weight * flow.condition_weight) for term, weight in problem.conditions]
    if problem.realism is not None:
        terms.append((problem.realism, flow.realism))

    def condition(some: Tensor) -> Tensor:
        columns = crowd.measure(problem.render, [term for term, _ in terms], some, AT_ONCE, sums=None).values.unbind(1)
        weighted = (weight * column for (_, weight), column in zip(terms, columns, strict=True))
        return sum(weighted, some.new_zeros(len(some)))

    groups = [latents[owns == own] for own in owns.unique()]
    slopes = [_slope(condition, group) for group in groups if len(group) > 1]
    return max(slopes, default=0.0) or 1.0


def _slope(condition: Callable[[Tensor], Tensor], latents: Tensor) -> float:
    return lipschitz(lambda flat: flat.view_as(latents), condition, latents.flatten(1))


def values(problem: Problem, term: Term, latents: Tensor) -> Tensor:
    """A term's log-values of latents [N, *shape], without a gradient: [N]."""
    return crowd.measure(problem.render, [term], latents, AT_ONCE, sums=None).values[:, 0]


def chosen_seeds(
    settings: GenerateSettings, problem: Problem, realism: Term, start: Callable[[tuple[int, ...]], Tensor],
    watch: Watch | None = None,
) -> tuple[int, ...]:  # fmt: skip
    """Of the starts of `draws` * n seeds, from `settings.seed` on, those that the discriminator chooses: n seeds.

    start: seeds -> latents [N, *shape]. Each place keeps its class: only starts of one are compared. SIR takes none
    twice, that no two particles begin at one place. MH-GAN's chains begin at a start in place of a real picture, which
    models do not come with. The logits are not calibrated. watch: told how far it is; may raise to end it. Raises
    SettingsError where a logit is no number.
    """
    n, count = settings.n, settings.draws * settings.n
    generator = seeded("choose", settings.seed)
    seeds = particle_seeds(settings.seed, count)
    pool = _judged(problem, realism, start, watch, seeds, 0.0)
    places = _by_class(pool.classes[:n])
    chosen: dict[int, list[int]] = {own: [] for own in places}
    highest = dict.fromkeys(places, -math.inf)
    while True:  # with DRS, of each round the best is accepted more often than not
        rows = _by_class(pool.classes)
        for own, wanted in places.items():
            if (lacking := len(wanted) - len(chosen[own])) <= 0 or own not in rows:
                continue
            logits = pool.logits[rows[own]]
            highest[own] = max(highest[own], float(logits.max()))
            picked = _selected(settings.choose, logits, lacking, highest[own], generator)
            chosen[own] += [seeds[rows[own][index]] for index in picked.tolist()]
        if all(len(chosen[own]) >= len(wanted) for own, wanted in places.items()):
            by_place = {place: seed for own in places for place, seed in zip(places[own], chosen[own], strict=False)}
            return tuple(by_place[place] for place in range(n))
        seeds = particle_seeds(seeds[-1] + 1, count)
        pool = _judged(problem, realism, start, watch, seeds, sum(map(len, chosen.values())) / n)


def _selected(choose: Selection, logits: Tensor, count: int, highest: float, generator: torch.Generator) -> Tensor:
    """Indices of `count` of the logits [N]; of DRS as many as are accepted."""
    if choose == "drs":
        return rejection.drs(logits, highest, generator=generator)
    if choose == "sir":
        return rejection.sir(logits, count, generator=generator, again=False)
    length = len(logits) // count
    rows = logits[: count * length].view(count, length)
    ends = rejection.metropolis_hastings(rows[:, 0], rows[:, 1:], generator=generator) + 1
    return torch.arange(count) * length + ends


class Pool(NamedTuple):
    """Of starts: what the discriminator says of their pictures, and their classes, 0 without any; [N] both."""

    logits: Tensor
    classes: Tensor


def _by_class(classes: Tensor) -> dict[int, list[int]]:
    """The rows of each class, in their order."""
    rows: dict[int, list[int]] = {}
    for row, own in enumerate(classes.tolist()):
        rows.setdefault(own, []).append(row)
    return rows


def _judged(
    problem: Problem, realism: Term, start: Callable[[tuple[int, ...]], Tensor], watch: Watch | None,
    seeds: tuple[int, ...], done: float,
) -> Pool:  # fmt: skip
    """What the pictures are that seeds begin at. done: the share of the starts that there are already."""
    logits, classes = [], []
    for first in range(0, len(seeds), AT_ONCE):
        if watch is not None:
            watch(SEARCHING, max(done, first / len(seeds)))
        latents = start(seeds[first : first + AT_ONCE])
        logits.append(values(problem, realism, latents))
        classes.append(_classes(problem.space, latents))
    pool = Pool(torch.cat(logits).cpu(), torch.cat(classes).cpu())
    if not pool.logits.isfinite().all():
        raise SettingsError(
            "choose: the discriminator gives no numbers for some of the model's own pictures. Leave the starts as they "
            "are drawn."
        )
    return pool


def _classes(space: LatentSpace, latents: Tensor) -> Tensor:
    """The class of each of the latents [N, *shape], 0 where there are none, or where they mix."""
    if isinstance(space, ClassSpace) and not space.relaxed:
        return space.weights(latents).argmax(1)
    return torch.zeros(len(latents), dtype=torch.long, device=latents.device)

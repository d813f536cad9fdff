"""Settings and loaded models become a Problem and its particles: one function per task."""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

from engine.inference.flow import Particles, Problem, Step, refine
from engine.inference.terms import (
    Composed,
    DistanceToStart,
    EditDirection,
    Extractor,
    KnownPixels,
    Realism,
    Term,
    TextLikelihood,
)
from engine.latents.classes import ClassSpace, classes_by_name, find_classes
from engine.latents.codebook import CodeSpace
from engine.latents.spaces import LatentSpace
from engine.pictures import imaging, masks
from engine.pictures.masks import Alpha, Mask
from engine.pictures.picture_files import Box, Picture, resized
from engine.settings import (
    EditSettings,
    FlowSettings,
    GenerateSettings,
    InpaintSettings,
    RunSettings,
    SettingsError,
)
from engine.system.files import Watch
from engine.tasks import inversion, styleclip
from engine.tasks.edit_spaces import StyleMoves, WMoves
from engine.tasks.inversion import Renderer, Start

if TYPE_CHECKING:
    from engine.models.clip import PromptModel
    from engine.models.loading import GeneratorModel


AnySettings = TypeVar("AnySettings", bound=RunSettings)
Flow = Generator[Step, FlowSettings | None, None]

CANDIDATES_AT_ONCE = 32
# How far the edits go for strength 1.
ALPHA = 4.0  # of StyleCLIP's global direction
ALPHA_SPREAD = 0.5  # its particles differ by strength alone: from 1 - this to 1 + this times alpha
GOAL = 5.0  # standard deviations of w along the edit's direction
DIRECTION_WEIGHT = 4.0  # of the pull to that goal, in which identity counts 1
TEXT_WEIGHT = 1.5  # of the CLIP likelihood beside it
IRRELEVANT = 0.25  # how freely coordinates move that the words do not speak of
WISH_WEIGHT = 8.0  # of an inpainting's prompt, in which the known pixels count `known_weight`
KNOWN_ALONE = 16.0  # times as much do the known pixels count without a prompt, or repulsion would tear the seams
STARTS_TRIED = 4  # draws for each particle of an inpainting with a prompt, of which the one that fits best begins
STARTS_AT_ONCE = 8
SEED_STRIDE = 1_000_003  # from one such draw to the next: far enough that particles never share one
WISH_TOLERANCE = 0.05  # as EDIT_TOLERANCE, where a prompt asks for more than what is around the hole suggests
EDIT_TOLERANCE = 0.004  # how far the starts of an edit's particles differ, see `inversion.posterior`


class GeneratorLike(Protocol):
    """What the tasks need of `models.GeneratorModel`."""

    @property
    def spaces(self) -> Mapping[str, LatentSpace]: ...

    @property
    def default_space(self) -> str: ...

    @property
    def discriminator(self) -> Extractor | None: ...

    def render(self, latents: Tensor, space: str | LatentSpace) -> Tensor: ...


class PromptModelLike(Protocol):
    """What the tasks need of `clip.PromptModel`."""

    @property
    def logit_scale(self) -> float: ...

    def image_features(self, images: Tensor) -> Tensor: ...

    def text_features(self, texts: Sequence[str]) -> Tensor: ...


def generate(
    settings: GenerateSettings,
    model: GeneratorLike,
    prompt_model: PromptModelLike,
    *,
    watch: Watch | None = None,
) -> tuple[Problem, Particles]:
    """Pictures for a prompt: repulsion in CLIP features, C by CLIP, realism by the model's own discriminator.

    watch: told how far the search for fitting starts is; may raise to end it. Raises SettingsError where the
    settings do not fit the models.
    """
    name = settings.space or model.default_space
    if name not in model.spaces:
        raise SettingsError(f"space: {name!r} is unknown to {settings.model}; it has {', '.join(model.spaces)}.")
    space = with_classes(settings, model.spaces[name], prompt_model).truncated(settings.truncation_psi)
    text, *contrast = prompt_model.text_features([settings.prompt, *settings.contrast_prompts])
    condition = TextLikelihood(
        prompt_model.image_features,
        text,
        contrast=torch.stack(contrast) if contrast else None,
        logit_scale=prompt_model.logit_scale,
        cutouts=settings.cutouts,
        seed=settings.seed,
    )
    problem = Problem(
        render=lambda latents: model.render(latents, space),
        space=space,
        extractor=prompt_model.image_features,
        text=text,
        conditions=((condition, 1.0),),
        realism=None if model.discriminator is None else Realism(model.discriminator),
        seed=settings.seed,
    )
    seeds = particle_seeds(settings.seed, settings.n)
    if settings.start is None and isinstance(space, CodeSpace) and space.bank is not None:
        return problem, Particles(fitting_starts(problem, space, seeds, settings.candidates, watch), seeds)
    return problem, Particles(start_latents(settings, space, seeds), seeds)


def with_classes(settings: GenerateSettings, space: LatentSpace, prompt_model: PromptModelLike) -> LatentSpace:
    """A class-conditional space with the classes named, or those the prompt is close to.

    Raises SettingsError for names where there are no classes, unknown names, and prompts that are close to none.
    """
    if not isinstance(space, ClassSpace):
        if settings.classes:
            raise SettingsError(f"classes: {settings.model} has none; leave them out.")
        return space
    if settings.classes:
        chosen = classes_by_name(settings.classes, space.names, prompt_model.text_features)
    else:
        found = find_classes(settings.prompt, space.names, prompt_model.text_features, count=settings.class_count)
        chosen = tuple(close.number for close in found)
    return space.holding(chosen, relaxed=settings.relaxed_classes)


def baseline(settings: AnySettings) -> AnySettings:
    """The same run from the same seeds without repulsion; of an edit, by the baseline that its settings name.

    Raises ValueError for an edit that names none.
    """
    if isinstance(settings, EditSettings) and settings.baseline != "no repulsion":
        if settings.baseline == "none":
            raise ValueError("These settings ask for no baseline.")
        return replace(settings, method=settings.baseline)
    return replace(settings, flow=replace(settings.flow, diversity=0.0))


def particle_seeds(seed: int, n: int) -> tuple[int, ...]:
    """seed, seed + 1, ...: any particle's start can be asked for again by its own seed."""
    return tuple((seed + i) % 2**32 for i in range(n))


def start_latents(settings: GenerateSettings, space: LatentSpace, seeds: Sequence[int]) -> Tensor:
    """Where the particles start: [N, *space.shape].

    "More like this" mixes the kept latent with fresh ones, sqrt(1 - spread^2) to spread: the length of a
    Gaussian latent does not change.
    """
    fresh = space.sample(seeds)
    if settings.start is None:
        return fresh
    if len(settings.start) != math.prod(space.shape):
        raise SettingsError(
            f"start: this picture's latent has {len(settings.start)} numbers, but space {space.name!r} of "
            f"{settings.model} needs {math.prod(space.shape)}. Choose the model and space it was made with."
        )
    kept = torch.tensor(settings.start).to(fresh).view(space.shape)
    return space.constrain(math.sqrt(1 - settings.spread**2) * kept + settings.spread * fresh)


@torch.no_grad()
def fitting_starts(
    problem: Problem, space: CodeSpace, seeds: Sequence[int], candidates: int, watch: Watch | None = None
) -> Tensor:
    """Of `candidates` starts of every particle the one whose picture fits the text best: [N, *space.shape].

    A grid of codes holds one picture, and no small move makes a house of a heart: the flow goes further from a start
    that resembles what is asked for (as the first search of Big Sleep, Murdock 2021). A particle's candidates follow
    from its seed, so particles differ. watch: as of `generate`.
    """
    if candidates == 1:
        return space.sample(seeds)
    codes = torch.stack([space.sample_codes(seeds, number) for number in range(candidates)], dim=1)  # [N, C, k]
    grids, which = codes.flatten(0, 1).unique(dim=0, return_inverse=True)  # a bank has only so many

    def fit(part: Tensor) -> Tensor:
        return problem.extractor(problem.render(space.latents(part))) @ problem.text

    fits = _watched_scores(fit, grids, CANDIDATES_AT_ONCE, watch)
    best: list[int] = []
    for own in which.view(len(seeds), candidates):
        # Two particles at one place would not repel each other.
        free = own[~torch.isin(own, torch.tensor(best, dtype=own.dtype, device=own.device))]
        own = free if len(free) else own
        best.append(int(own[fits[own].argmax()]))
    return space.latents(grids[best])


def _watched_scores(score: Callable[[Tensor], Tensor], candidates: Tensor, at_once: int, watch: Watch | None) -> Tensor:
    """score(candidates) [M], `at_once` of them at a time; watch: told before each time, may raise to end it."""
    scores: list[Tensor] = []
    for part in candidates.split(at_once):
        if watch is not None:
            watch("Looking for starts that fit the words", len(scores) * at_once / len(candidates))
        scores.append(score(part))
    return torch.cat(scores)


# ---- own pictures: edit and inpaint ----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Canvas:
    """The picture that a result is painted into: only where alpha [H, W] is above 0, only within the box.

    hole: [1, 1, R, R], the alpha at the generator's resolution; target: [1, 3, R, R].
    """

    picture: Picture
    alpha: Alpha
    box: Box
    hole: Tensor
    target: Tensor

    def paint(self, image: Tensor) -> Picture:
        """One image [3, R, R] put into the picture."""
        pixels = resized(imaging.to_uint8(image[None])[0], self.box.side)
        return masks.paste(self.picture, self.box, pixels, self.alpha)


@dataclass(frozen=True, eq=False)
class Task:
    """A run of Edit or Inpaint, ready to go: its problem, where its particles start, and what becomes of a step."""

    settings: EditSettings | InpaintSettings
    problem: Problem
    particles: Particles
    begin: Start
    renderer: Renderer
    iterate: Callable[[Problem, Particles, FlowSettings], Flow] = refine
    own_flow: Callable[[FlowSettings], FlowSettings] = lambda flow: flow  # what the method makes of the settings
    canvas: Canvas | None = None

    def steps(self, flow: FlowSettings | None = None, particles: Particles | None = None) -> Flow:
        """The run, from its start or from the particles of one of its steps; as `flow.refine`."""
        steps = self.iterate(self.problem, particles or self.particles, self.own_flow(flow or self.settings.flow))
        new_flow: FlowSettings | None = None
        try:
            step = next(steps)
            while True:
                new_flow = yield self.shown(step)
                step = steps.send(None if new_flow is None else self.own_flow(new_flow))
        except StopIteration:
            return
        finally:
            steps.close()

    def shown(self, step: Step) -> Step:
        """The step with what a person sees of its images: those of an inpainting between the known pixels."""
        if self.canvas is None:
            return step
        return replace(step, images=torch.lerp(self.canvas.target, step.images, self.canvas.hole))

    def picture(self, step: Step, index: int) -> Picture:
        """What is saved of a result: an edit at the generator's size, an inpainting in the picture's own."""
        if self.canvas is not None:
            return self.canvas.paint(step.images[index])
        source = self.begin.picture
        pixels = imaging.to_uint8(step.images[index : index + 1])[0]
        return source.with_pixels(pixels) if source else Picture(pixels)

    @torch.no_grad()
    def start(self, step: Step, index: int) -> Start:
        """The start of a further edit of one result."""
        latents, space = step.particles.latents[index : index + 1], self.problem.space
        image = step.images[index : index + 1]
        u, residual = self.begin.latents, self.begin.residual
        if isinstance(space, StyleMoves):
            residual = space.decode(latents)[0] - self.renderer.styles(u[None])[0]
        elif isinstance(space, WMoves):
            u = space.to_w_plus(latents)[0]
        picture = None if self.canvas is None else self.picture(step, index)
        return replace(
            self.begin, latents=u, residual=residual, image=image, target=image, picture=picture, distance=0.0
        )

    def figures(self, step: Step) -> dict[str, Any]:
        """What the report says of the results: numbers by name, lists with one number for each particle."""
        target = self.begin.target if self.canvas is None else self.canvas.target
        changes = (step.images.clamp(-1, 1) - target).abs().flatten(1).mean(1) / 2
        figures: dict[str, Any] = {"distance_to_original": changes.tolist()}
        if self.canvas is not None:
            results = [self.picture(step, index) for index in range(len(step.images))]
            changed = [masks.count_changed(self.canvas.picture, result, self.canvas.alpha) for result in results]
            figures["hole_diversity"] = step.diversity
            figures["known_pixels_changed"] = sum(changed)
            figures["mask_share"] = float((self.canvas.alpha == 1).mean())
        return figures


def edit(
    settings: EditSettings,
    start: Start,
    generator: "GeneratorModel",
    prompt_model: "PromptModel",
    *,
    watch: Watch | None = None,
) -> Task:
    """Ways to change a picture as the words say, from posterior draws around it.

    watch: told how far the preparation is, which takes tens of drawings; may raise to end it.
    Raises SettingsError, and DirectionsMissingError where a method needs the edit directions of the two models and
    nobody computed them.
    """
    renderer = Renderer(generator, start.noise)
    make = {"gmi": _edit_gmi, "clip": _edit_clip, "direction": _edit_direction, "optimise": _edit_optimise}
    return make[settings.method](_Edit(settings, start, renderer, generator, prompt_model, watch))


@dataclass(frozen=True, eq=False)
class _Edit:
    """What the methods of an edit share."""

    settings: EditSettings
    start: Start
    renderer: Renderer
    generator: "GeneratorModel"
    prompt_model: "PromptModel"
    watch: Watch | None

    @property
    def seeds(self) -> tuple[int, ...]:
        return particle_seeds(self.settings.seed, self.settings.n)

    def spread(self) -> Tensor:
        return inversion.posterior(self.start, self.renderer, tolerance=EDIT_TOLERANCE, watch=self.watch)

    def text(self) -> Tensor:
        return self.prompt_model.text_features([self.settings.prompt])[0]

    def words(self) -> Tensor:
        """From what the picture is to what it should be, in feature space: [D]."""
        return styleclip.text_direction(self.prompt_model, self.settings.prompt, self.settings.neutral)

    def task(
        self, space: WMoves | StyleMoves, latents: Tensor, conditions: Sequence[tuple[Term, float]], **how: Any
    ) -> Task:
        problem = Problem(
            render=lambda moves: self.renderer.synthesis(space.decode(moves)),
            space=space,
            extractor=self.prompt_model.image_features,
            text=self.text(),
            conditions=tuple(conditions),
            realism=None if self.generator.discriminator is None else Realism(self.generator.discriminator),
            seed=self.settings.seed,
        )
        return Task(self.settings, problem, Particles(latents, self.seeds), self.start, self.renderer, **how)


def _edit_gmi(edit: _Edit) -> Task:
    """The edit's direction in W and the CLIP likelihood, repulsion, and a pull back to the start.

    Coordinates of w that matter for the edit move freely, the others IRRELEVANT times as far for the same gradient's
    square root: what the words do not speak of changes little.
    """
    directions = styleclip.require_directions(edit.generator, edit.prompt_model, "w")
    words, beta = edit.words(), edit.settings.disentanglement
    weight = torch.where(directions.is_relevant(words, beta), 1.0, IRRELEVANT)
    whitened = edit.renderer.space.whitened.statistics
    per_coordinate = whitened.factor / whitened.factor.square().sum(0)  # w - mean -> u, [w_dim, K]
    basis = (directions.std * weight)[:, None] * per_coordinate
    space = WMoves(edit.renderer, edit.start, basis, edit.spread())
    latents = space.sample(edit.seeds)
    direction = torch.nn.functional.normalize(directions.edit(words, beta) / directions.std, dim=0)
    goal = latents @ direction + GOAL * edit.settings.strength
    likelihood = TextLikelihood(edit.prompt_model.image_features, words, logit_scale=edit.prompt_model.logit_scale)
    conditions: list[tuple[Term, float]] = [
        (EditDirection(direction, goal=goal), DIRECTION_WEIGHT),
        (likelihood, TEXT_WEIGHT * edit.settings.strength),
        (DistanceToStart(latents), edit.settings.identity),
    ]
    return edit.task(space, latents, conditions)


def identity_basis(start: Start) -> Tensor:
    """Coordinates that are the whitened u themselves."""
    return torch.eye(start.latents.shape[1]).to(start.latents)


def _edit_clip(edit: _Edit) -> Task:
    """The CLIP likelihood in W+, repulsion, and a pull back to the start."""
    space = WMoves(edit.renderer, edit.start, identity_basis(edit.start), edit.spread(), per_layer=True)
    latents = space.sample(edit.seeds)
    likelihood = TextLikelihood(
        edit.prompt_model.image_features, edit.text(), logit_scale=edit.prompt_model.logit_scale
    )
    conditions: list[tuple[Term, float]] = [
        (likelihood, edit.settings.strength),
        (DistanceToStart(latents), edit.settings.identity),
    ]
    return edit.task(space, latents, conditions)


def _edit_direction(edit: _Edit) -> Task:
    """StyleCLIP's global direction: all from the start itself, differing by strength alone."""
    directions = styleclip.require_directions(edit.generator, edit.prompt_model, "s")
    direction, std = directions.edit(edit.words(), edit.settings.disentanglement), directions.std
    space = StyleMoves(edit.renderer, edit.start, std)
    count = edit.settings.n
    ends = torch.linspace(1 - ALPHA_SPREAD, 1 + ALPHA_SPREAD, count) if count > 1 else torch.ones(1)
    strengths = ALPHA * edit.settings.strength * ends.to(std)
    moves = strengths[:, None] * direction / std.clamp_min(1e-6)
    return edit.task(space, space.sample(edit.seeds), [(EditDirection(moves), 1.0)], own_flow=in_a_line)


def in_a_line(flow: FlowSettings) -> FlowSettings:
    """Settings by which a constant gradient is followed to its end: after all steps, 1 times the gradient."""
    return FlowSettings(
        steps=flow.steps,
        step_size=1 / flow.steps,
        step_schedule="constant",
        diversity=0.0,
        normalise=False,
        constrain=flow.constrain,
        chunk=flow.chunk,
    )


def _edit_optimise(edit: _Edit) -> Task:
    """StyleCLIP's latent optimisation in W+: 1 - cos and the squared distance to the start, by Adam."""
    space = WMoves(edit.renderer, edit.start, identity_basis(edit.start), edit.spread(), per_layer=True)
    latents = space.sample(edit.seeds)
    likelihood = TextLikelihood(edit.prompt_model.image_features, edit.text(), logit_scale=1.0)
    pull = 2 * styleclip.LATENT_WEIGHT * edit.settings.identity
    conditions: list[tuple[Term, float]] = [(likelihood, edit.settings.strength), (DistanceToStart(latents), pull)]
    return edit.task(space, latents, conditions, iterate=styleclip.optimise)


def prepare_mask(settings: InpaintSettings, mask: Mask, picture: Picture) -> Mask:
    """The mask as the settings want it: inverted, grown. Raises PictureError where nothing is left to repaint."""
    prepared = masks.grow_mask(masks.invert_mask(mask) if settings.invert else mask, settings.grow)
    masks.check_mask(prepared, picture.size)
    return prepared


def inpaint(
    settings: InpaintSettings,
    picture: Picture,
    mask: Mask,
    start: Start,
    generator: "GeneratorModel",
    prompt_model: "PromptModel",
    *,
    watch: Watch | None = None,
) -> Task:
    """Ways to fill the mask so that the rest fits: the known pixels are a likelihood, the prompt, if any, another.

    mask: as `prepare_mask` returned it; start: found by `inversion.invert` with that mask. The particles begin at
    draws of the posterior given the known pixels, and repel each other by what differs in the hole alone.
    watch: as for `edit`. Raises PictureError for a mask that does not fit the picture.
    """
    masks.check_mask(mask, picture.size)
    assert start.box is not None
    renderer = Renderer(generator, start.noise)
    canvas = _canvas(settings, picture, mask, start)
    known = (canvas.hole == 0).to(canvas.hole)
    tolerance = WISH_TOLERANCE if settings.prompt else inversion.TOLERANCE
    factor = inversion.posterior(start, renderer, known, tolerance=tolerance, watch=watch)
    space = WMoves(renderer, start, factor.T, factor)
    composed = Composed(prompt_model.image_features, canvas.target, canvas.hole)
    text = prompt_model.text_features([settings.prompt])[0] if settings.prompt else None
    seeds = particle_seeds(settings.seed, settings.n)

    def render(moves: Tensor) -> Tensor:
        return renderer.synthesis(space.decode(moves))

    if text is None:
        latents = space.sample(seeds)
    else:
        latents = _fitting_draws(space, seeds, lambda moves: composed(render(moves)) @ text, watch)
    conditions: list[tuple[Term, float]] = []
    if known.any():
        weight = settings.known_weight * (KNOWN_ALONE if text is None else 1.0)
        conditions.append((KnownPixels(canvas.target, known), weight))
    if text is not None:
        conditions.append((TextLikelihood(composed, text, logit_scale=prompt_model.logit_scale), WISH_WEIGHT))
    problem = Problem(
        render=render,
        space=space,
        extractor=composed,
        text=torch.zeros_like(prompt_model.text_features([""])[0]) if text is None else text,
        conditions=tuple(conditions),
        realism=None if generator.discriminator is None else Realism(generator.discriminator),
        seed=settings.seed,
    )
    return Task(settings, problem, Particles(latents, seeds), start, renderer, canvas=canvas)


def inpaint_sides(
    settings: InpaintSettings,
    picture: Picture,
    mask: Mask,
    start: Start,
    generator: "GeneratorModel",
    prompt_model: "PromptModel",
    *,
    watch: Watch | None = None,
) -> dict[str, Task]:
    """`inpaint` as "ours" and, where the settings ask for it, "baseline", which differs in the flow alone."""
    ours = inpaint(settings, picture, mask, start, generator, prompt_model, watch=watch)
    sides = {"ours": ours}
    if settings.baseline:
        sides["baseline"] = replace(ours, settings=baseline(settings))
    return sides


@torch.no_grad()
def _fitting_draws(
    space: WMoves, seeds: Sequence[int], score: Callable[[Tensor], Tensor], watch: Watch | None
) -> Tensor:
    """For each seed the one of STARTS_TRIED draws that scores best, [N, J]; no particle depends on another."""
    tries = range(0, STARTS_TRIED * SEED_STRIDE, SEED_STRIDE)
    draws = torch.stack([space.sample([(seed + further) % 2**32 for seed in seeds]) for further in tries])
    scores = _watched_scores(score, draws.flatten(0, 1), STARTS_AT_ONCE, watch).unflatten(0, draws.shape[:2])
    return draws[scores.argmax(0), torch.arange(len(seeds))]


def _canvas(settings: InpaintSettings, picture: Picture, mask: Mask, start: Start) -> Canvas:
    """The picture with the feathered mask, and both at the generator's resolution."""
    assert start.box is not None
    alpha = masks.feather_mask(mask, settings.feather)
    hole = inversion.to_resolution(masks.cut_alpha(alpha, start.box), start.target)
    return Canvas(picture, alpha, start.box, hole, start.target)

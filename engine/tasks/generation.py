"""Generate: pictures for a prompt, or without one pictures that look real (Zhou et al. 2022, Tables 1 and 2).

Without words C of Eq. 6 is the discriminator's logit, B the density of the examples that the model comes with, as far
as it has them, and A keeps the pictures apart.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from engine.families import find_family
from engine.inference.flow import Particles, Partwise, Problem, Step
from engine.inference.terms import Coded, Matcher, Matching, Realism, References, Term, TextLikelihood, TransportCost
from engine.latents.classes import ClassSpace, classes_by_name, find_classes
from engine.latents.codebook import CodeSpace
from engine.latents.noise import NoiseSpace
from engine.latents.sentences import ReadSpace, SentenceSpace, ToldSpace
from engine.latents.spaces import LatentSpace
from engine.metrics.likeness import Likeness
from engine.models.captions import caption_features
from engine.models.memory import check_fits, free_bytes
from engine.pictures import imaging
from engine.pictures.examples import Examples
from engine.pictures.picture_files import Picture, covering
from engine.settings import LIMITS, OF_THE_MODEL, FlowSettings, GenerateSettings, SettingsError
from engine.system.files import Watch
from engine.tasks import inversion
from engine.tasks.marks import Marked, pinned_latent, with_pinned
from engine.tasks.sampling import check_sampler, chosen_seeds, steepest
from engine.tasks.task import (
    CodeStage,
    GeneratorLike,
    PromptModelLike,
    Task,
    fittest,
    particle_seeds,
)
from engine.tasks.towards import (
    Shown,
    check_references,
    check_shown,
    own_references,
    references,
    shown_features,
)

CANDIDATES_AT_ONCE = 32
REWARD = "reward"
START_MISSING = (
    "start_from: the picture that this run begins at is not here. Give the same file again, or leave it out."
)
STAGE_TEXTS = ("all codes together", "codes in turn")
# Of runs without words, in which the usual step size .3, diversity .5 and weight of examples .5 then are a step of .1
# and weights of 1. Chosen on fashion, with the seeds and pictures of `experiments.unconditional --split validation`:
# there the distance falls from .304 to .264 with A + B + C, to .258 with a realism of 0, to .287 with one of .1, and
# precision and recall stay; with all gradients in units of their own typical length it rose, whatever the step.
ALONE_STEP, ALONE_REPULSION, ALONE_DATA, ALONE_REALISM = 1 / 3, 2.0, 2.0, 0.03
ALONE_UNHELD_REPULSION = 0.4  # without examples, which hold pictures to what is real
ALONE_CODES_REPULSION = 1.0  # with 5, which words allow, mosaic's pictures get speckles
ALONE_BANDWIDTH = 0.3  # of the mean squared distance of the examples' features


@dataclass(frozen=True, eq=False)
class Generation(Task):
    """Pictures for a prompt, or without one. likeness: what runs without words are compared with at every step.

    steepest: the slope of its conditions that an optimal transport divides them by.
    """

    settings: GenerateSettings
    likeness: Likeness | None = None
    steepest: float = 1.0

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the pictures may be of; none where there are no classes."""
        space = self.problem.space
        return tuple(space.names[number] for number in space.classes) if isinstance(space, ClassSpace) else ()

    def labels(self, step: Step) -> tuple[str, ...]:
        """The class of each picture, with its share where classes mix."""
        space = self.problem.space
        if not isinstance(space, ClassSpace):
            return ()
        shares, own = space.weights(step.particles.latents).max(1)
        names = [self.classes[number] for number in own.tolist()]
        if not space.relaxed:
            return tuple(names)
        return tuple(f"{name} {100 * share:.0f} %" for name, share in zip(names, shares.tolist(), strict=True))

    @property
    def aim(self) -> str:
        if self.settings.prompt:
            return ""
        name, flow, data = self.generator.name, self.settings.flow, self.problem.data
        apart = "apart from each other" if flow.diversity and self.settings.n > 1 else ""
        towards = []
        if self.problem.conditions and flow.condition_weight:
            towards.append(f"what the discriminator of {name} takes for real")
        if data is not None and flow.data_weight:
            is_own = self.settings.towards in ("", OF_THE_MODEL)
            count = len(data.features)
            towards.append(f"its {count:,} examples" if is_own else f"{count:,} pictures of yours")
        if towards:
            return f"Without words: towards {' and '.join(towards)}{apart and f', and {apart}'}."
        only = f"only {apart}" if apart else "nothing moves"
        return f"Without words: {name} has neither discriminator nor examples; {only}."

    def progress(self, step: Step) -> Mapping[str, float]:
        told = {} if self.likeness is None else self.likeness.figures(step.features)
        logits = step.log_values.get(REWARD)
        return told if logits is None else {**told, REWARD: float(logits.mean())}

    def stage(self, step: Step) -> CodeStage | None:
        flow = self.settings.flow
        if not flow.detail_steps or not isinstance(self.problem.space, Partwise):
            return None
        return CodeStage(step.stage, STAGE_TEXTS[step.stage - 1], (flow.steps - flow.detail_steps) / flow.steps)

    def start(self, step: Step, index: int) -> inversion.Start | None:
        """None for truncated latents, which mean something else than those of the whole space."""
        if self.settings.truncation_psi != 1 or "w+" not in self.generator.spaces:
            return None
        latents = step.particles.latents[index]
        # Classes are part of the space that the latents belong to; psi is 1.
        return inversion.start_from_latents(self.generator, self.problem.space, latents)  # type: ignore[arg-type]

    def marked(self, marks: Marked) -> "Generation":
        """The same run where these marks are in force beside what the settings name."""
        return replace(self, problem=marks.applied(self.problem))

    def _own_flow(self, flow: FlowSettings) -> FlowSettings:
        """Without words the gradients as they are, in units of the latents' variance, A and B with one kernel.

        A and B are two densities that are to become one, and where they agree their gradients cancel. Each in units of
        its own typical length would not: on fashion B then draws all pictures to a few, and A drives them off what the
        generator can draw. Codes move as they do with words, but repelled no more than drawn.

        An optimal transport divides its conditions by their steepest slope.
        """
        if flow.transport:
            weight, realism = flow.condition_weight / self.steepest, flow.realism / self.steepest
            flow = replace(
                flow, condition_weight=_within("condition_weight", weight), realism=_within("realism", realism)
            )
        space, data = self.problem.space, self.problem.data
        if self.settings.prompt or not flow.normalise:
            return flow
        if isinstance(space, Coded):
            return replace(flow, diversity_gain=ALONE_CODES_REPULSION)
        variance = space.scale**2 / math.prod(space.shape)
        return replace(
            flow,
            normalise=False,
            conflict_free=False,
            step_size=_within("step_size", ALONE_STEP * variance * flow.step_size),
            diversity_gain=ALONE_REPULSION if data is not None and flow.data_weight else ALONE_UNHELD_REPULSION,
            data_weight=_within("data_weight", ALONE_DATA * flow.data_weight),
            condition_weight=ALONE_REALISM * flow.condition_weight,
            bandwidth=flow.bandwidth if data is None else ALONE_BANDWIDTH * _mean_square(data.features),
        )


def _within(name: str, value: float) -> float:
    low, high = LIMITS[name]
    return min(max(value, low), high)


def _mean_square(features: Tensor) -> float:
    """The mean squared distance of two rows of [M, D]; 1 where all are equal."""
    return 2 * float(features.double().var(0, correction=0).sum()) or 1.0


def generate(
    settings: GenerateSettings,
    model: GeneratorLike,
    prompt_model: PromptModelLike,
    *,
    examples: Examples | None = None,
    seen: Shown | None = None,
    liked: Shown | None = None,
    picture: Picture | None = None,
    reward: PromptModelLike | None = None,
    watch: Watch | None = None,
) -> Generation:
    """Pictures for a prompt: repulsion in CLIP features, C by CLIP and by the model's own discriminator ("realism").

    Without one: C is that realism. examples: a person's own pictures, where the settings name them (`towards`); seen:
    those that the results are to be unlike (`unlike`); liked: those to be like (`like`); picture: the one that they
    begin at (`start_from`); reward: the model that the settings name so (`reward_model`). watch: told how far the
    search for starts is; may raise to end it. Raises SettingsError where the settings do not fit models and pictures.
    """
    check_sampler(settings, model)
    space = _space(settings, model, prompt_model, picture)
    seeds = particle_seeds(settings.seed, settings.n)
    device = space.sample(seeds[:1]).device
    data = references(settings, model, prompt_model, examples, device=device, watch=watch)
    apart = shown_features("unlike", settings.unlike, seen, prompt_model, device=device, watch=watch)
    wanted = shown_features("like", settings.like, liked, prompt_model, device=device, watch=watch)
    problem = replace(
        _problem(settings, space, model, prompt_model, reward),
        data=data,
        seen=apart,
        liked=None if wanted is None else References(wanted),
        pinned=frozenset(pin.place for pin in settings.pinned),
    )
    if settings.choose:
        judge = _realism(model, space)
        assert judge is not None
        seeds = chosen_seeds(settings, problem, judge, partial(start_latents, settings, space), watch)
    particles = with_pinned(_start(settings, problem, seeds, watch), settings.pinned, space)
    own = None if settings.prompt else own_references(model, prompt_model, device)
    likeness = None if own is None else Likeness(own)
    if not settings.flow.transport:
        return Generation(settings, problem, particles, model, likeness)
    problem = replace(problem, transport=TransportCost(particles.latents))
    return Generation(settings, problem, particles, model, likeness, steepest(problem, settings.flow))


def _start(settings: GenerateSettings, problem: Problem, seeds: tuple[int, ...], watch: Watch | None) -> Particles:
    """Where the particles begin, pinned ones aside."""
    space = problem.space
    if settings.prompt and settings.start is None and isinstance(space, CodeSpace) and space.bank is not None:
        return Particles(fitting_starts(problem, space, seeds, settings.candidates, watch), seeds)
    return Particles(start_latents(settings, space, seeds), seeds)


def check(
    settings: GenerateSettings,
    model: GeneratorLike,
    prompt_model: PromptModelLike,
    *,
    examples: Examples | None = None,
    seen: Shown | None = None,
    liked: Shown | None = None,
    picture: Picture | None = None,
) -> None:
    """Raises SettingsError where the settings do not fit the models, as `generate` would; looks for no starts."""
    check_sampler(settings, model)
    check_references(settings.towards, model, prompt_model, examples)
    check_shown("unlike", settings.unlike, seen, prompt_model)
    check_shown("like", settings.like, liked, prompt_model)
    space = _space(settings, model, prompt_model, picture)
    latents = start_latents(settings, space, particle_seeds(settings.seed, 1))
    for pin in settings.pinned:
        pinned_latent(pin, space, latents)


def _space(
    settings: GenerateSettings, model: GeneratorLike, prompt_model: PromptModelLike, picture: Picture | None = None
) -> LatentSpace:
    """The latent space that the settings name, with its classes, truncated; of noise, with where that begins."""
    if not model.spaces:
        raise SettingsError(
            f"model: {settings.model} works on pictures and draws none of its own. Choose another model, or "
            f"{' or '.join(find_family(model.family).possible_tasks)} a picture with it."
        )
    name = settings.space or model.default_space
    if name not in model.spaces:
        raise SettingsError(f"space: {name!r} is unknown to {settings.model}; it has {', '.join(model.spaces)}.")
    space = with_classes(settings, model, model.spaces[name], prompt_model)
    if isinstance(space, NoiseSpace):
        return _noise_space(settings, space, model, picture)
    if settings.start_from:
        raise SettingsError(
            f"start_from: {settings.model} begins at no picture; diffusion models do. Choose one, or leave the picture "
            "out; Edit changes a picture by a model that finds it."
        )
    if settings.prompt and isinstance(space, ReadSpace):
        return space.saying(settings.prompt).truncated(settings.truncation_psi)
    return space.truncated(settings.truncation_psi)


def _noise_space(
    settings: GenerateSettings, space: NoiseSpace, model: GeneratorLike, picture: Picture | None
) -> NoiseSpace:
    """The noise of a diffusion model for these words, size and picture. Raises SettingsError."""
    size = (settings.width, settings.height)
    if settings.start_from:
        if picture is None or picture.sha256 != settings.start_from:
            raise SettingsError(START_MISSING)
        if not any(size):
            size = space.fitting(*picture.size)
    drawing = space.drawing(
        settings.prompt,
        steps=settings.denoising_steps,
        gradient_steps=settings.gradient_steps,
        width=size[0],
        height=size[1],
    )
    sides = (drawing.width, drawing.height)
    check_fits(model.family, *sides, settings.n, drawing.steps, lambda: free_bytes(space.device))
    if not settings.start_from or picture is None:
        return drawing
    pixels = covering(picture.pixels, *sides)
    return drawing.beginning(imaging.from_uint8(pixels[None]), settings.start_strength)


def _problem(
    settings: GenerateSettings,
    space: LatentSpace,
    model: GeneratorLike,
    prompt_model: PromptModelLike,
    reward: PromptModelLike | None,
) -> Problem:
    text, likelihood = _likelihood(settings, prompt_model) if settings.prompt else (None, None)
    realism = _realism(model, space)
    condition: Term | None = likelihood or realism
    return Problem(
        render=lambda latents: model.render(latents, space, draft=True),
        show=(lambda latents: model.render(latents, space)) if model.draft_resolution else None,
        space=space,
        extractor=prompt_model.image_features,
        text=text,
        conditions=()
        if condition is None
        else (  # each with its weight
            (condition, 1.0),
            *_reward(settings, reward),
        ),
        realism=None if text is None else realism,
        seed=settings.seed,
        captions=None if text is None else caption_features(prompt_model),
    )


def _reward(settings: GenerateSettings, reward: PromptModelLike | None) -> tuple[tuple[Term, float], ...]:
    """What the second prompt model, if settings name one, thinks of the same random views for the same words.

    Raises SettingsError where it is not given.
    """
    if not settings.prompt or not settings.reward_model:
        return ()
    if reward is None:
        raise SettingsError(
            f"reward_model: {settings.reward_model} is named, but not given; give what load_prompt_model makes of it "
            "as `reward`."
        )
    (text,) = reward.text_features([settings.prompt])
    likelihood = TextLikelihood(
        reward.image_features,
        text,
        logit_scale=reward.logit_scale,
        cutouts=settings.cutouts,
        seed=settings.seed,
        name=REWARD,
    )
    return ((likelihood, settings.reward_weight),)


def _realism(model: GeneratorLike, space: LatentSpace) -> Term | None:
    """How real the model's own discriminator takes pictures for, with the sentence of each where it reads that too."""
    if isinstance(model.discriminator, Matcher) and isinstance(space, SentenceSpace | ToldSpace):
        return Matching(model.discriminator, space.sentences_of)
    return None if model.discriminator is None else Realism(model.discriminator)


def _likelihood(settings: GenerateSettings, prompt_model: PromptModelLike) -> tuple[Tensor, TextLikelihood]:
    """The prompt's features [D], and how likely it makes pictures."""
    text, *contrast = prompt_model.text_features([settings.prompt, *settings.contrast_prompts])
    return text, TextLikelihood(
        prompt_model.image_features,
        text,
        contrast=torch.stack(contrast) if contrast else None,
        logit_scale=prompt_model.logit_scale,
        cutouts=settings.cutouts,
        seed=settings.seed,
    )


def with_classes(
    settings: GenerateSettings, model: GeneratorLike, space: LatentSpace, prompt_model: PromptModelLike
) -> LatentSpace:
    """A class-conditional space with the classes named, or those the prompt is close to.

    All without a prompt, or where no class has a name: particles then are of one class after the other.

    Raises SettingsError for names where there are no classes, unknown names, and prompts that are close to none.
    """
    if not isinstance(space, ClassSpace):
        others = [name for name, other in model.spaces.items() if isinstance(other, ClassSpace)]
        if settings.classes and others:
            raise SettingsError(
                f"classes: space {space.name!r} has none; leave them out, or use {' or '.join(others)}."
            )
        if settings.classes:
            raise SettingsError(f"classes: {settings.model} has none; leave them out.")
        return space
    if not settings.classes and (not settings.prompt or all(name.isdecimal() for name in space.names)):
        return space.holding(range(len(space.names)), relaxed=settings.relaxed_classes)  # no word can find a number
    if settings.classes:
        chosen = classes_by_name(settings.classes, space.names, prompt_model.text_features)
    else:
        found = find_classes(settings.prompt, space.names, prompt_model.text_features, count=settings.class_count)
        chosen = tuple(close.number for close in found)
    return space.holding(chosen, relaxed=settings.relaxed_classes)


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
    assert problem.text is not None
    text = problem.text
    codes = torch.stack([space.sample_codes(seeds, number) for number in range(candidates)], dim=1)  # [N, C, k]

    def fit(grids: Tensor) -> Tensor:
        return problem.extractor(problem.render(space.latents(grids))) @ text

    return space.latents(fittest(codes, fit, CANDIDATES_AT_ONCE, watch))

"""Generate: pictures for a prompt."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.inference.flow import Particles, Partwise, Problem, Step
from engine.inference.terms import Realism, TextLikelihood
from engine.latents.classes import ClassSpace, classes_by_name, find_classes
from engine.latents.codebook import CodeSpace
from engine.latents.spaces import LatentSpace
from engine.models.captions import caption_features
from engine.pictures.examples import Examples
from engine.settings import GenerateSettings, SettingsError
from engine.system.files import Watch
from engine.tasks import inversion
from engine.tasks.task import CodeStage, GeneratorLike, PromptModelLike, Task, fittest, particle_seeds
from engine.tasks.towards import check_references, references

CANDIDATES_AT_ONCE = 32
STAGE_TEXTS = ("all codes together", "codes in turn")


@dataclass(frozen=True, eq=False)
class Generation(Task):
    """Pictures for a prompt."""

    settings: GenerateSettings

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


def generate(
    settings: GenerateSettings,
    model: GeneratorLike,
    prompt_model: PromptModelLike,
    *,
    examples: Examples | None = None,
    watch: Watch | None = None,
) -> Generation:
    """Pictures for a prompt: repulsion in CLIP features, C by CLIP, realism by the model's own discriminator.

    examples: a person's own pictures, where the settings name them (`towards`). watch: told how far the search for
    fitting starts is; may raise to end it. Raises SettingsError where the settings do not fit models and examples.
    """
    space = _space(settings, model, prompt_model)
    problem = _problem(settings, space, model, prompt_model)
    data = references(settings, model, prompt_model, examples, device=problem.text.device, watch=watch)
    problem = replace(problem, data=data)
    seeds = particle_seeds(settings.seed, settings.n)
    if settings.start is None and isinstance(space, CodeSpace) and space.bank is not None:
        latents = fitting_starts(problem, space, seeds, settings.candidates, watch)
    else:
        latents = start_latents(settings, space, seeds)
    return Generation(settings, problem, Particles(latents, seeds), model)


def check(
    settings: GenerateSettings,
    model: GeneratorLike,
    prompt_model: PromptModelLike,
    *,
    examples: Examples | None = None,
) -> None:
    """Raises SettingsError where the settings do not fit the models, as `generate` would; looks for no starts."""
    check_references(settings.towards, model, prompt_model, examples)
    space = _space(settings, model, prompt_model)
    start_latents(settings, space, particle_seeds(settings.seed, 1))


def _space(settings: GenerateSettings, model: GeneratorLike, prompt_model: PromptModelLike) -> LatentSpace:
    """The latent space that the settings name, with its classes, truncated."""
    if not model.spaces:
        raise SettingsError(
            f"model: {settings.model} translates pictures and draws none of its own. Choose another model, or "
            "translate a picture with it."
        )
    name = settings.space or model.default_space
    if name not in model.spaces:
        raise SettingsError(f"space: {name!r} is unknown to {settings.model}; it has {', '.join(model.spaces)}.")
    return with_classes(settings, model, model.spaces[name], prompt_model).truncated(settings.truncation_psi)


def _problem(
    settings: GenerateSettings, space: LatentSpace, model: GeneratorLike, prompt_model: PromptModelLike
) -> Problem:
    text, *contrast = prompt_model.text_features([settings.prompt, *settings.contrast_prompts])
    condition = TextLikelihood(
        prompt_model.image_features,
        text,
        contrast=torch.stack(contrast) if contrast else None,
        logit_scale=prompt_model.logit_scale,
        cutouts=settings.cutouts,
        seed=settings.seed,
    )
    return Problem(
        render=lambda latents: model.render(latents, space, draft=True),
        show=(lambda latents: model.render(latents, space)) if model.draft_resolution else None,
        space=space,
        extractor=prompt_model.image_features,
        text=text,
        conditions=(  # each with its weight
            (condition, 1.0),
        ),
        realism=None if model.discriminator is None else Realism(model.discriminator),
        seed=settings.seed,
        captions=caption_features(prompt_model),
    )


def with_classes(
    settings: GenerateSettings, model: GeneratorLike, space: LatentSpace, prompt_model: PromptModelLike
) -> LatentSpace:
    """A class-conditional space with the classes named, or those the prompt is close to; all where none has a name.

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
    if not settings.classes and all(name.isdecimal() for name in space.names):
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
    codes = torch.stack([space.sample_codes(seeds, number) for number in range(candidates)], dim=1)  # [N, C, k]

    def fit(grids: Tensor) -> Tensor:
        return problem.extractor(problem.render(space.latents(grids))) @ problem.text

    return space.latents(fittest(codes, fit, CANDIDATES_AT_ONCE, watch))

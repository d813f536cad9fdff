"""Edit: a picture changed as words say, in different ways, beside StyleCLIP's methods from the same start."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.inference.flow import Particles, Problem, Step
from engine.inference.terms import DistanceToStart, EditDirection, Realism, Term, TextLikelihood
from engine.models.captions import caption_features
from engine.pictures import imaging
from engine.pictures.examples import Examples
from engine.pictures.picture_files import Picture, redrawn
from engine.settings import EditSettings, FlowSettings
from engine.system.files import Watch
from engine.tasks import inversion, styleclip
from engine.tasks.edit_spaces import StyleEditSpace, WEditSpace, start_after
from engine.tasks.inversion import Renderer, Start
from engine.tasks.task import Flow, Task, particle_seeds
from engine.tasks.towards import references

if TYPE_CHECKING:
    from engine.models.clip import PromptModel
    from engine.models.loading import GeneratorModel

# How far the edits go for strength 1.
ALPHA = 4.0  # of StyleCLIP's global direction
ALPHA_SPREAD = 0.5  # its particles differ by strength alone: from 1 - this to 1 + this times alpha
GOAL = 5.0  # standard deviations of w along the edit's direction
DIRECTION_WEIGHT = 4.0  # of the pull to that goal, in which identity counts 1
TEXT_WEIGHT = 1.5  # of the CLIP likelihood beside it
IRRELEVANT = 0.25  # how freely coordinates move that the words do not speak of
TOLERANCE = 0.004  # how far the starts of the particles differ, see `inversion.posterior`


@dataclass(frozen=True, eq=False)
class Editing(Task):
    """Edits of one picture, which begin at its place in the latent space."""

    settings: EditSettings
    begin: Start
    renderer: Renderer

    def picture(self, step: Step, index: int) -> Picture:
        """At the generator's size, with the profile, name and transparency of the picture that was edited."""
        pixels = imaging.to_uint8(step.pictures[index : index + 1])[0]
        begin = self.begin
        return redrawn(begin.picture, pixels, begin.box) if begin.picture else Picture(pixels)

    def figures(self, step: Step) -> dict[str, Any]:
        changes = (step.pictures.clamp(-1, 1) - self.begin.target).abs().flatten(1).mean(1) / 2
        return {"distance_to_original": changes.tolist()}

    def start(self, step: Step, index: int) -> Start:
        start = start_after(self.begin, self.renderer, self.problem.space, step, index)
        return replace(start, picture=self.picture(step, index), box=None)


@dataclass(frozen=True, eq=False)
class DirectionEditing(Editing):
    """StyleCLIP's global direction."""

    def _own_flow(self, flow: FlowSettings) -> FlowSettings:
        return in_a_line(flow)


@dataclass(frozen=True, eq=False)
class OptimisedEditing(Editing):
    """StyleCLIP's latent optimisation."""

    def _iterate(self, particles: Particles, flow: FlowSettings) -> Flow:
        return styleclip.optimise(self.problem, particles, flow)


def edit(
    settings: EditSettings,
    start: Start,
    generator: "GeneratorModel",
    prompt_model: "PromptModel",
    *,
    examples: Examples | None = None,
    watch: Watch | None = None,
) -> Editing:
    """Ways to change a picture as the words say, from posterior draws around it.

    examples: a person's own pictures, where the settings name them (`towards`). watch: told how far the preparation is,
    which takes tens of drawings; may raise to end it. Raises SettingsError, and DirectionsMissingError where a method
    needs the edit directions of the two models and nobody computed them.
    """
    renderer = Renderer(generator, start.noise)
    make = {"gmi": _edit_gmi, "clip": _edit_clip, "direction": _edit_direction, "optimise": _edit_optimise}
    return make[settings.method](_Edit(settings, start, renderer, generator, prompt_model, examples, watch))


@dataclass(frozen=True, eq=False)
class _Edit:
    """What the methods of an edit share."""

    settings: EditSettings
    start: Start
    renderer: Renderer
    generator: "GeneratorModel"
    prompt_model: "PromptModel"
    examples: Examples | None
    watch: Watch | None

    @property
    def seeds(self) -> tuple[int, ...]:
        return particle_seeds(self.settings.seed, self.settings.n)

    def spread(self) -> Tensor:
        return inversion.posterior(self.start, self.renderer, tolerance=TOLERANCE, watch=self.watch)

    def text(self) -> Tensor:
        return self.prompt_model.text_features([self.settings.prompt])[0]

    def words(self) -> Tensor:
        """From what the picture is to what it should be, in feature space: [D]."""
        return styleclip.text_direction(self.prompt_model, self.settings.prompt, self.settings.neutral)

    def task(
        self,
        space: WEditSpace | StyleEditSpace,
        latents: Tensor,
        conditions: Sequence[tuple[Term, float]],
        method: type[Editing] = Editing,
    ) -> Editing:
        text = self.text()
        data = None
        if method is Editing:  # StyleCLIP's methods know no such pull
            chosen = (self.settings, self.generator, self.prompt_model, self.examples)
            data = references(*chosen, device=text.device, watch=self.watch)
        problem = Problem(
            render=lambda moves: self.renderer.synthesis(space.decode(moves), self.generator.draft_resolution or None),
            show=(lambda moves: self.renderer.synthesis(space.decode(moves)))
            if self.generator.draft_resolution
            else None,
            space=space,
            extractor=self.prompt_model.image_features,
            text=text,
            data=data,
            conditions=tuple(conditions),
            realism=None if self.generator.discriminator is None else Realism(self.generator.discriminator),
            seed=self.settings.seed,
            captions=caption_features(self.prompt_model),
        )
        particles = Particles(latents, self.seeds)
        return method(self.settings, problem, particles, self.generator, self.start, self.renderer)


def _edit_gmi(edit: _Edit) -> Editing:
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
    space = WEditSpace(edit.renderer, edit.start, basis, edit.spread())
    latents = space.sample(edit.seeds)
    direction = F.normalize(directions.edit(words, beta) / directions.std, dim=0)
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


def _edit_clip(edit: _Edit) -> Editing:
    """The CLIP likelihood in W+, repulsion, and a pull back to the start."""
    space = WEditSpace(edit.renderer, edit.start, identity_basis(edit.start), edit.spread(), per_layer=True)
    latents = space.sample(edit.seeds)
    likelihood = TextLikelihood(
        edit.prompt_model.image_features, edit.text(), logit_scale=edit.prompt_model.logit_scale
    )
    conditions: list[tuple[Term, float]] = [
        (likelihood, edit.settings.strength),
        (DistanceToStart(latents), edit.settings.identity),
    ]
    return edit.task(space, latents, conditions)


def _edit_direction(edit: _Edit) -> Editing:
    """StyleCLIP's global direction: all from the start itself, differing by strength alone."""
    directions = styleclip.require_directions(edit.generator, edit.prompt_model, "s")
    direction, std = directions.edit(edit.words(), edit.settings.disentanglement), directions.std
    space = StyleEditSpace(edit.renderer, edit.start, std)
    count = edit.settings.n
    ends = torch.linspace(1 - ALPHA_SPREAD, 1 + ALPHA_SPREAD, count) if count > 1 else torch.ones(1)
    strengths = ALPHA * edit.settings.strength * ends.to(std)
    moves = strengths[:, None] * direction / std.clamp_min(1e-6)
    return edit.task(space, space.sample(edit.seeds), [(EditDirection(moves), 1.0)], DirectionEditing)


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


def _edit_optimise(edit: _Edit) -> Editing:
    """StyleCLIP's latent optimisation in W+: 1 - cos and the squared distance to the start, by Adam."""
    space = WEditSpace(edit.renderer, edit.start, identity_basis(edit.start), edit.spread(), per_layer=True)
    latents = space.sample(edit.seeds)
    likelihood = TextLikelihood(edit.prompt_model.image_features, edit.text(), logit_scale=1.0)
    pull = 2 * styleclip.LATENT_WEIGHT * edit.settings.identity
    conditions: list[tuple[Term, float]] = [(likelihood, edit.settings.strength), (DistanceToStart(latents), pull)]
    return edit.task(space, latents, conditions, OptimisedEditing)

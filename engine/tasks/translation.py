"""Translate: a picture redrawn in another domain in different ways, in styles from latents or from references."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from engine.inference.flow import Particles, Problem, Step
from engine.inference.terms import DistanceToStart, DomainLogit, Extractor, StyleLikelihood, Term, TextLikelihood
from engine.latents.spaces import seeded
from engine.latents.translation import (
    DrawnStyles,
    GivenStyles,
    TranslationSpace,
    equal_effect,
    in_turn,
    nearest_latents,
)
from engine.models.captions import caption_features
from engine.networks.stargan2 import Translator
from engine.pictures import imaging
from engine.pictures.examples import Examples
from engine.pictures.picture_files import Box, Picture, cut, redrawn, resized, whole_square
from engine.settings import FlowSettings, SettingsError, TranslateSettings
from engine.tasks.task import Flow, Task, particle_seeds, standing_still

if TYPE_CHECKING:
    from engine.models.clip import PromptModel
    from engine.models.loading import GeneratorModel

MOST_REFERENCES = 16
EFFECT_SAMPLES = 4  # of these, at which the effects of style and content on a picture are compared
STYLE_SAMPLES = 2000  # of the mapping network, by which the styles of a domain are known
DOMAIN_WEIGHT = 1.0
REFERENCE_WEIGHT = 1.0
PROMPT_WEIGHT = 0.1  # of the CLIP likelihood, whose logits are a hundred times a cosine
IDENTITY_WEIGHT = 0.01
LEAST_DEVIATION = 0.05  # of a number of a style, in that of all: one that hardly varies may not be all that moves
REFERENCE_SPREAD = 0.3  # by which the latents of one reference's particles begin apart


@dataclass(frozen=True, eq=False)
class Source:
    """A picture as the model sees it: the square of it that is translated, pixels [R, R, 3], and where it lies."""

    picture: Picture
    box: Box
    pixels: Any

    def image(self, like: Tensor) -> Tensor:
        """[1, 3, R, R] in [-1, 1], where `like` lies."""
        return imaging.from_uint8(self.pixels[None]).to(like)


@dataclass(frozen=True, eq=False)
class Translation(Task):
    """Ways to redraw one picture in a domain."""

    settings: TranslateSettings
    begin: Source
    references: Sequence[Source]
    translator: Translator
    domain: int

    def picture(self, step: Step, index: int) -> Picture:
        """At the generator's size, with the profile, name and transparency of the picture that was translated."""
        pixels = imaging.to_uint8(step.images[index : index + 1])[0]
        return redrawn(self.begin.picture, pixels, self.begin.box)

    @torch.no_grad()
    def figures(self, step: Step) -> dict[str, Any]:
        images = step.images.clamp(-1, 1)
        changes = (images - self.begin.image(images)).abs().flatten(1).mean(1) / 2
        figures: dict[str, Any] = {"distance_to_original": changes.tolist()}
        if (judge := self.translator.discriminator) is not None:
            figures["domain_logits"] = judge.logits(judge.features(images))[:, self.domain].tolist()
        return figures


@dataclass(frozen=True, eq=False)
class PlainTranslation(Translation):
    """The plain model: what the particles begin at is the result."""

    def _iterate(self, particles: Particles, flow: FlowSettings) -> Flow:
        return standing_still(self.problem, particles, flow)


def square(picture: Picture, side: int) -> Source:
    """The largest square in the picture's middle, at the model's size."""
    box = whole_square(*picture.size)
    # However the pixels lie in memory, a convolution adds them in one order: results come back bit for bit.
    return Source(picture, box, np.ascontiguousarray(resized(cut(picture.pixels, box), side)))


def find_domain(settings: TranslateSettings, generator: "GeneratorModel") -> int:
    """The number of the domain that the settings name. Raises SettingsError for one that the model does not have."""
    names = generator.classes
    if not settings.domain:
        return 0
    if settings.domain not in names:
        raise SettingsError(
            f"domain: {generator.name} does not know {settings.domain!r}; choose one of {', '.join(names)}."
        )
    return names.index(settings.domain)


def check_translation(
    settings: TranslateSettings, generator: "GeneratorModel", references: Examples | None = None
) -> Translator:
    """The model's networks. Raises SettingsError where it translates nothing, or settings and references do not fit."""
    if not isinstance(generator.network, Translator):
        raise SettingsError(
            f"model: {generator.name} translates no pictures. Choose a StarGAN v2 model, such as "
            f"{TranslateSettings.model}."
        )
    find_domain(settings, generator)
    if settings.references and references is None:
        raise SettingsError(
            "references: the pictures whose style this run takes are not here. Give the same files again, or choose "
            "others."
        )
    if settings.references and references is not None:
        if references.sha256 != settings.references:
            raise SettingsError("references: these are other pictures than the settings name. Give the same files.")
        if len(references) > MOST_REFERENCES:
            raise SettingsError(f"references: {len(references)} pictures are too many; give {MOST_REFERENCES} at most.")
    return generator.network


def translate(
    settings: TranslateSettings,
    picture: Picture,
    generator: "GeneratorModel",
    prompt_model: "PromptModel",
    *,
    references: Examples | None = None,
) -> Translation:
    """Ways to redraw the picture in the domain: the discriminator's logit is the condition, its features the kernel's.

    The particles begin where the plain model ends: each at a style of its own, or, with references, at that of one of
    them, and at the picture's own content. Without a discriminator, which released files lack, nothing says how good a
    result is, and others are the features in which they repel each other, see `repelling_features`. With a prompt
    these are, as of the other tasks, the prompt model's. references: those that the settings name. Raises
    SettingsError.
    """
    translator = check_translation(settings, generator, references)
    domain, side = find_domain(settings, generator), translator.img_size
    style_dim = translator.generator.style_dim
    begin = square(picture, side)
    like = next(translator.parameters())
    with torch.no_grad():
        encoded, detail = translator.encoded(begin.image(like))
        content = encoded[0]
        chosen = references.pictures if references and settings.references else ()
        # In an order that what the model sees decides: so a saved picture's references are as good as the files.
        seen = sorted((square(one, side) for one in chosen), key=lambda one: Picture(one.pixels).sha256)
        given = translator.styles_of(torch.cat([one.image(like) for one in seen]), domain) if seen else None
    space = _space(settings, translator, domain, (content, detail), given)
    seeds = particle_seeds(settings.seed, settings.n)
    latents = space.sample(seeds)
    conditions = _conditions(translator, domain, space, len(seeds))
    conditions.append((DistanceToStart(latents), IDENTITY_WEIGHT * settings.identity))
    extractor, text = repelling_features(translator, prompt_model, with_references=given is not None), None
    if settings.prompt:
        extractor, text = prompt_model.image_features, prompt_model.text_features([settings.prompt])[0]
        likelihood = TextLikelihood(extractor, text, logit_scale=prompt_model.logit_scale)
        conditions.append((likelihood, PROMPT_WEIGHT))

    def render(moved: Tensor) -> Tensor:
        decoded = space.decode(moved)
        styles, features = decoded[:, :style_dim], decoded[:, style_dim:]
        shown = features.unflatten(1, content.shape) if features.shape[1] else content.expand(len(moved), -1, -1, -1)
        return translator.generator.draw(shown, styles, detail)

    problem = Problem(
        render=render,
        space=space,
        extractor=extractor,
        text=text,
        conditions=tuple(conditions),
        seed=settings.seed,
        captions=None if text is None else caption_features(prompt_model),
    )
    made = PlainTranslation if settings.method == "plain" else Translation
    return made(settings, problem, Particles(latents, seeds), generator, begin, seen, translator, domain)


def repelling_features(
    translator: Translator, prompt_model: "PromptModel", *, with_references: bool = False
) -> Extractor:
    """In which features results differ: the discriminator's, or, of a model without one, the style encoder's.

    With references these are what the results are held to, and apart in them they would differ in nothing else: then
    the prompt model's.
    """
    if (judge := translator.discriminator) is not None:
        return judge.features
    return prompt_model.image_features if with_references else translator.style_features


def what_is_missing(translator: Translator) -> str:
    """What a person should know of a model that lacks a network; "" of others."""
    told = []
    if translator.discriminator is None:
        told.append(
            "This model comes without its discriminator, as released files do. So nothing tells how well a result fits "
            "its domain; results differ by what the style encoder sees, in the styles of pictures by what the prompt "
            "model sees. Say in words what they should show to have a condition."
        )
    if translator.generator.high_pass and translator.fan is None:
        told.append(
            "This model comes without `fan`, the network that sees where eyes, nose and mouth are, but was trained "
            "with it: their fine detail is not handed on from your picture, and faces are less like it."
        )
    return " ".join(told)


@torch.no_grad()
def _space(
    settings: TranslateSettings,
    translator: Translator,
    domain: int,
    encoded: tuple[Tensor, Mapping[int, Tensor]],
    given: Tensor | None,
) -> TranslationSpace:
    content, detail = encoded
    styles = _drawn(translator, domain, content) if given is None else _near(translator, domain, given)

    def draw(features: Tensor, latents: Tensor) -> Tensor:
        return translator.generator.draw(features, styles.decode(settings.style_scale * latents), detail)

    unit = 0.0
    if settings.content_scale > 0:
        tried = styles.sample(range(EFFECT_SAMPLES)) / settings.style_scale
        unit = settings.content_scale * equal_effect(draw, content, tried)
    return TranslationSpace(styles, content.flatten(), settings.style_scale, unit)


def _drawn(translator: Translator, domain: int, like: Tensor) -> DrawnStyles:
    mapping = translator.mapping_network
    return DrawnStyles(mapping.latent_dim, like.device, mapping=lambda z: mapping.to_domain(z, domain))


def _near(translator: Translator, domain: int, given: Tensor) -> GivenStyles:
    """Around the references' styles; how widely styles lie is that of latents' and these, in no number nothing."""
    drawn = _drawn(translator, domain, given)
    samples = torch.randn(STYLE_SAMPLES, drawn.dim, generator=seeded("styles")).to(given)
    deviation = torch.maximum(drawn.decode(samples).std(0), (given - given.mean(0)).square().mean(0).sqrt())
    deviation = deviation.clamp_min(LEAST_DEVIATION * float(deviation.square().mean().sqrt()) + 1e-6)
    z = nearest_latents(drawn, given, deviation, samples=samples)
    return GivenStyles(drawn, given, z, deviation, REFERENCE_SPREAD)


def _conditions(translator: Translator, domain: int, space: TranslationSpace, n: int) -> list[tuple[Term, float]]:
    """What results should be: in the domain, and in the references' styles."""
    conditions: list[tuple[Term, float]] = []
    if (judge := translator.discriminator) is not None:
        conditions.append((DomainLogit(judge.features, judge.logits, domain), DOMAIN_WEIGHT))
    if isinstance(styles := space.styles, GivenStyles):
        head, wanted = translator.style_encoder.unshared[domain], in_turn(styles.given, n)
        likelihood = StyleLikelihood(translator.style_features, head, wanted, styles.deviation)
        conditions.append((likelihood, REFERENCE_WEIGHT))
    return conditions

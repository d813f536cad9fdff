"""Translate: a picture redrawn in another domain in different ways, in styles from latents or from references."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.inference.flow import Particles, Problem, Step, refine
from engine.inference.terms import DistanceToStart, DomainLogit, Extractor, StyleLikelihood, Term, TextLikelihood
from engine.latents.spaces import normal_per_seed, seeded
from engine.latents.translation import TranslationSpace, equal_effect, translation_space
from engine.models.captions import caption_features
from engine.networks.stargan2 import Translator
from engine.pictures import imaging
from engine.pictures.examples import Examples
from engine.pictures.picture_files import Box, Picture, cut, redrawn, resized, whole_square
from engine.settings import FlowSettings, SettingsError, TranslateSettings
from engine.tasks.task import Flow, Task, particle_seeds

if TYPE_CHECKING:
    from engine.models.clip import PromptModel
    from engine.models.loading import GeneratorModel

MOST_REFERENCES = 16
EFFECT_SAMPLES = 4  # of these, at which the effects of style and content on a picture are compared
STYLE_SAMPLES = 2000  # of the mapping network, by which the styles of a domain are known
DOMAIN_WEIGHT = 1.0
REFERENCE_WEIGHT = 1.0
PROMPT_WEIGHT = 0.1  # of the CLIP likelihood, whose logits are a hundred times a cosine
IDENTITY_WEIGHT = 0.1
LEAST_DEVIATION = 0.05  # of a number of a style, in that of all: one that hardly varies may not be all that moves
REFERENCE_SPREAD = 0.3  # deviations of a style by which particles of one reference begin apart


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
        steps = refine(self.problem, particles, flow)
        step = next(steps)
        steps.close()
        while True:
            flow = (yield step) or flow
            if step.step >= flow.steps:
                return
            moved = replace(step.particles, step=step.step + 1)
            step = replace(step, particles=moved, step=moved.step, total=flow.steps, seconds=0.0)


def square(picture: Picture, side: int) -> Source:
    """The largest square in the picture's middle, at the model's size."""
    box = whole_square(*picture.size)
    return Source(picture, box, resized(cut(picture.pixels, box), side))


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
            f"model: {generator.name} draws pictures of its own and translates none. Choose a StarGAN v2 model, such "
            f"as {TranslateSettings.model}."
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
    result is: they repel each other by what the style encoder sees. With a prompt they repel each other, as of the
    other tasks, by what the prompt model sees. references: those that the settings name. Raises SettingsError.
    """
    translator = check_translation(settings, generator, references)
    domain, side = find_domain(settings, generator), translator.img_size
    begin = square(picture, side)
    like = next(translator.parameters())
    with torch.no_grad():
        content = translator.generator.content(begin.image(like))[0]
        chosen = references.pictures if references and settings.references else ()
        # In an order that what the model sees decides: so a saved picture's references are as good as the files.
        seen = sorted((square(one, side) for one in chosen), key=lambda one: Picture(one.pixels).sha256)
        given = translator.styles_of(torch.cat([one.image(like) for one in seen]), domain) if seen else None
    space = _space(settings, translator, domain, content, given)
    seeds = particle_seeds(settings.seed, settings.n)
    latents = space.sample(seeds)
    conditions = _conditions(translator, domain, space, given, len(seeds))
    conditions.append((DistanceToStart(latents), IDENTITY_WEIGHT * settings.identity))
    extractor = repelling_features(translator)
    text = None
    if settings.prompt:
        extractor, text = prompt_model.image_features, prompt_model.text_features([settings.prompt])[0]
        likelihood = TextLikelihood(extractor, text, logit_scale=prompt_model.logit_scale)
        conditions.append((likelihood, PROMPT_WEIGHT))

    def render(moved: Tensor) -> Tensor:
        decoded = space.decode(moved)
        styles, features = decoded[:, : space.style_dim], decoded[:, space.style_dim :]
        shown = features.unflatten(1, content.shape) if features.shape[1] else content.expand(len(moved), -1, -1, -1)
        return translator.generator.draw(shown, styles)

    problem = Problem(
        render=render,
        space=space,
        extractor=extractor,
        text=_no_text(extractor, begin.image(like)) if text is None else text,
        conditions=tuple(conditions),
        seed=settings.seed,
        captions=None if text is None else caption_features(prompt_model),
    )
    made = PlainTranslation if settings.method == "plain" else Translation
    return made(settings, problem, Particles(latents, seeds), generator, begin, seen, translator, domain)


def in_turn(styles: Tensor, n: int) -> Tensor:
    """The references' styles [R, S], one for each of n particles."""
    return styles[torch.arange(n, device=styles.device) % len(styles)]


def repelling_features(translator: Translator) -> Extractor:
    """In which features results differ: the discriminator's, or, of a model without one, the style encoder's."""
    judge = translator.discriminator
    return translator.style_features if judge is None else judge.features


def what_is_missing(translator: Translator) -> str:
    """What a person should know of a model without a discriminator; "" of others."""
    if translator.discriminator is not None:
        return ""
    return (
        "This model comes without its discriminator, as released files do. So nothing tells how well a result fits its "
        "domain; results differ by what the style encoder sees. Say in words what they should show to have a condition."
    )


@torch.no_grad()
def _space(
    settings: TranslateSettings, translator: Translator, domain: int, content: Tensor, given: Tensor | None
) -> TranslationSpace:
    mapping = translator.mapping_network

    def mapped(seeds: Sequence[int]) -> Tensor:
        z = normal_per_seed((mapping.latent_dim,), purpose="z", seeds=seeds).to(content)
        return mapping.to_domain(z, domain)

    z = torch.randn(STYLE_SAMPLES, mapping.latent_dim, generator=seeded("styles")).to(content)
    samples = mapping.to_domain(z, domain)
    known = samples if given is None else torch.cat([samples, given])
    # Of references the middle is theirs: a style encoder's styles need not lie among those of latents.
    mean, deviation = (samples if given is None else given).mean(0), samples.std(0)
    if given is not None:
        deviation = torch.maximum(deviation, (given - mean).square().mean(0).sqrt())
    deviation = deviation.clamp_min(LEAST_DEVIATION * float(deviation.square().mean().sqrt()) + 1e-6)

    def starts(seeds: Sequence[int]) -> Tensor:
        if given is None:
            return mapped(seeds)
        noise = normal_per_seed(mean.shape, purpose="reference", seeds=seeds).to(mean)
        noise[: len(given)] = 0  # the first of each reference is the plain model's
        return in_turn(given, len(seeds)) + REFERENCE_SPREAD * deviation * noise

    unit = 0.0
    if settings.content_scale > 0:
        tried = known[-EFFECT_SAMPLES:]
        unit = settings.content_scale * equal_effect(translator.generator.draw, content, tried, deviation)
    return translation_space(
        mean, deviation, (known.amin(0), known.amax(0)), content, starts,
        style_scale=settings.style_scale, content_unit=unit,
    )  # fmt: skip


def _conditions(
    translator: Translator, domain: int, space: TranslationSpace, given: Tensor | None, n: int
) -> list[tuple[Term, float]]:
    """What results should be: in the domain, and in the references' styles."""
    conditions: list[tuple[Term, float]] = []
    if (judge := translator.discriminator) is not None:
        conditions.append((DomainLogit(judge.features, judge.logits, domain), DOMAIN_WEIGHT))
    if given is not None:
        head = translator.style_encoder.unshared[domain]
        likelihood = StyleLikelihood(translator.style_features, head, in_turn(given, n), space.deviation)
        conditions.append((likelihood, REFERENCE_WEIGHT))
    return conditions


@torch.no_grad()
def _no_text(extractor: Extractor, image: Tensor) -> Tensor:
    """Words that nothing says: no picture is any nearer to them than another."""
    return torch.zeros_like(extractor(image)[0])

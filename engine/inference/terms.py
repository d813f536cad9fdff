"""The log-densities of Eq. 6: each takes a batch of particles to one log-value per particle.

As far as gradients go, value i depends on particle i alone; other particles and weights are constants. A term
reaches its networks through `batch.features(network)`, so that each network runs once per step, and in chunks
where asked. Adding a condition = one Term here. N particles, M references, D features.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.inference import density, kernels
from engine.latents.spaces import LatentSpace, seeded
from engine.settings import Bandwidth, Estimator, MollifierSpace

TRANSPORT_SHIFT = 1e-3  # of a transport's cost, which has no gradient where nothing moved yet
# Images [N, 3, H, W] in [-1, 1] -> [N, ...], each image for itself. Hashable: equal extractors run once.
Extractor = Callable[[Tensor], Tensor]
EVERY_ROW = slice(None)


class Stage:
    """One function of the step, cut out of the rest of the graph: `output` is a leaf, [N, ...].

    `pull_back` takes cotangents of the output to cotangents of the input. With `chunk`, no graph is kept:
    `output` is computed without one, and `pull_back` runs the function again, `chunk` particles at a time.

    A chunk is another batch, and float32 rounds otherwise in it: by 1e-6 of a picture's range. Where that carries an
    activation across a kink of the network its gradient jumps: on the bundled avatars a particle's first move changes
    by 1e-6 of its length, or by up to 1 %, five steps of the default size later its place by 10 % of |z|. In float64
    whole and chunked runs agree to 1e-9.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], inputs: Tensor, chunk: int | None) -> None:
        self._function = function
        self._chunk = chunk
        if chunk is None:
            self._inputs, self._result = _with_graph(function, inputs)
            output = self._result.detach()
        else:
            self._inputs = inputs.detach()
            output = apply_in_chunks(function, self._inputs, chunk)
        self.output = output.requires_grad_()

    def pull_back(self, cotangents: Sequence[Tensor]) -> list[Tensor]:
        """K cotangents [N, ...] of the output -> K of the input. Only once: the last one frees the graph."""
        if self._chunk is None:
            return _vector_jacobian(self._result, self._inputs, cotangents)
        parts = []
        for start in range(0, len(self._inputs), self._chunk):
            rows = slice(start, start + self._chunk)
            inputs, result = _with_graph(self._function, self._inputs[rows])
            parts.append(_vector_jacobian(result, inputs, [cotangent[rows] for cotangent in cotangents]))
        return [torch.cat(column) for column in zip(*parts, strict=True)]


def _with_graph(function: Callable[[Tensor], Tensor], inputs: Tensor) -> tuple[Tensor, Tensor]:
    inputs = inputs.detach().requires_grad_()
    with torch.enable_grad():
        return inputs, function(inputs)


def _vector_jacobian(result: Tensor, inputs: Tensor, cotangents: Sequence[Tensor]) -> list[Tensor]:
    """One backward pass, whatever the number of cotangents."""
    if len(cotangents) < 2:
        return [torch.autograd.grad(result, inputs, cotangent)[0] for cotangent in cotangents]
    (gradients,) = torch.autograd.grad(result, inputs, torch.stack(list(cotangents)), is_grads_batched=True)
    return list(gradients)


@torch.no_grad()
def apply_in_chunks(function: Callable[[Tensor], Tensor], inputs: Tensor, chunk: int | None) -> Tensor:
    """function(inputs) without a graph, at most `chunk` rows at a time."""
    return torch.cat([function(part) for part in inputs.split(chunk or len(inputs))])


class Batch:
    """One step's latents and everything computed from them, each once; whatever it hands out is a leaf.

    latents: [N, *latent_shape]; images: [N, 3, H, W], nominally in [-1, 1]; chunk: as in `Stage`; rows: which
    particles of all these are.
    """

    def __init__(
        self,
        latents: Tensor,
        images: Tensor,
        *,
        step: int = 0,
        chunk: int | None = None,
        rows: slice = EVERY_ROW,
    ) -> None:
        self.rows = rows
        self.latents = latents.detach().requires_grad_()
        self.images = images.detach().requires_grad_()
        self.step = step
        self.chunk = chunk
        self._stages: dict[Extractor, Stage] = {}
        self._constants: dict[Extractor, Tensor] = {}

    def __len__(self) -> int:
        return len(self.latents)

    def features(self, extractor: Extractor) -> Tensor:
        """extractor(images), a leaf that gradients are taken at."""
        if extractor not in self._stages:
            self._stages[extractor] = Stage(extractor, self.images, self.chunk)
        return self._stages[extractor].output

    def constant_features(self, extractor: Extractor) -> Tensor:
        """extractor(images) without a gradient."""
        if extractor in self._stages:
            return self._stages[extractor].output.detach()
        if extractor not in self._constants:
            self._constants[extractor] = apply_in_chunks(extractor, self.images.detach(), self.chunk)
        return self._constants[extractor]

    def gradients(self, values: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Gradients of K log-values [N]: K by the images [N, 3, H, W], K by the latents [N, *latent_shape].

        The latter are what a term takes from the latents directly, not through the generator. Only once.
        """
        stages = list(self._stages.values())
        leaves = [self.latents, self.images, *(stage.output for stage in stages)]
        by_leaf = [_gradients_at(leaves, value) for value in values]
        by_latents = [row[0] for row in by_leaf]
        by_images = [row[1] for row in by_leaf]
        for column, stage in enumerate(stages, start=2):
            used = [k for k, row in enumerate(by_leaf) if row[column].any()]
            pulled = stage.pull_back([by_leaf[k][column] for k in used]) if used else []
            for k, gradient in zip(used, pulled, strict=True):
                by_images[k] = by_images[k] + gradient
        return by_images, by_latents


def _gradients_at(leaves: Sequence[Tensor], value: Tensor) -> list[Tensor]:
    """d value_i / d leaf_i for every particle, zero where the value does not depend on a leaf."""
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    ones = torch.ones_like(value)
    return list(torch.autograd.grad(value, leaves, ones, retain_graph=True, materialize_grads=True))


class Term(Protocol):
    """One log-density of Eq. 6."""

    @property
    def name(self) -> str: ...

    def log_value(self, batch: Batch) -> Tensor:
        """[N], differentiable by the batch's leaves."""
        ...


@dataclass(frozen=True)
class NoisyFeatures:
    """Features [N, samples, D] of noisy copies of every image: the image-space mollifier of Eq. 3.

    The noise is drawn from (seed, step) and shared by all particles.
    """

    extractor: Extractor
    sigma: float
    samples: int
    seed: int
    step: int

    def __call__(self, images: Tensor) -> Tensor:
        generator = seeded("mollifier", self.seed, self.step)
        noise = torch.randn((self.samples, *images.shape[1:]), generator=generator).to(images)
        return torch.stack([self.extractor(images + self.sigma * one) for one in noise], dim=1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Estimated:
    """How a term estimates its density from samples. mollifier: this step's width s, already annealed."""

    estimator: Estimator = "krr"
    bandwidth: Bandwidth | float = "nearest"
    eta: str | float = "positive"
    mollifier: float = 0.0
    mollifier_space: MollifierSpace = "feature"
    mollifier_samples: int = 4
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Repulsion(Estimated):
    """A_i = log q(x_i | c), the particles' own density (Eq. 4); its weight in Eq. 6 is negative.

    The other particles' features and the weights alpha are constants for the gradient at f_i; the self-term
    stays. seen: features [M, D] of pictures that count among the particles, but stay where they are.
    """

    extractor: Extractor
    seen: Tensor | None = None
    name: str = field(default="repulsion", kw_only=True)

    def log_value(self, batch: Batch) -> Tensor:
        features = batch.features(self.extractor)
        return self.fitted(features, self.noisy_features(batch)).log_value(batch)

    def fitted(self, features: Tensor, noisy: Tensor | None = None) -> "FittedRepulsion":
        """A for the features of all particles [N, D]; noisy: `noisy_features` of them."""
        f, anchors = kernels.kernel_precision(features.detach()), noisy
        if noisy is not None:
            anchors = kernels.kernel_precision(noisy)
        if self.seen is not None:
            seen = kernels.kernel_precision(self.seen.detach())
            f = torch.cat([f, seen])
            if anchors is not None:  # of what was seen no pictures are kept: its features stand for all noisy copies'
                anchors = torch.cat([anchors, seen[:, None].expand(-1, self.mollifier_samples, -1)])
        squares = kernels.squared_distances(f, f)
        h = kernels.choose_bandwidth(squares, self.bandwidth)
        if self.mollifier_space == "feature":
            h = kernels.mollified_bandwidth(h, self.mollifier)
        kernel = (-squares / h if anchors is None else kernels.sampled_log_kernel(f, anchors, h)).exp()
        score = None
        if self.estimator == "stein":
            score = density.stein_score(f, kernel, h, density.choose_eta(kernel, self.eta), anchors=anchors)
        alpha = density.weights(kernel, self.estimator, self.eta)
        return FittedRepulsion(self.extractor, Fit(f if anchors is None else anchors, alpha, h), score, self.name)

    def noisy_features(self, batch: Batch) -> Tensor | None:
        """Features [N, samples, D] that the image-space mollifier averages over; None without one."""
        noisy = self.mollifying(batch.step)
        return None if noisy is None else batch.constant_features(noisy)

    def mollifying(self, step: int) -> NoisyFeatures | None:
        """What those features are computed by."""
        if self.mollifier_space == "feature" or self.mollifier == 0:
            return None
        return NoisyFeatures(self.extractor, self.mollifier, self.mollifier_samples, self.seed, step)


class Fit(NamedTuple):
    """A density sum_j alpha_j k(f, a_j); k is averaged over S noisy versions of an anchor where there are some.

    anchors: [M, D] or [M, S, D]; alpha: [M]; h: the kernel's bandwidth, [].
    """

    anchors: Tensor
    alpha: Tensor
    h: Tensor

    def log_density(self, f: Tensor) -> Tensor:
        """log of the density at f: [N, D] -> [N]."""
        log_kernel = kernels.log_kernel if self.anchors.dim() == 2 else kernels.sampled_log_kernel
        return density.log_density(log_kernel(f, self.anchors, self.h), self.alpha)


@dataclass(frozen=True, eq=False)
class FittedRepulsion:
    """A of any of the particles that `fit` was made from. score: Stein's, [N, D], who gives the gradient alone.

    The value, which is only reported, then is KDE's.
    """

    extractor: Extractor
    fit: Fit
    score: Tensor | None
    name: str

    def log_value(self, batch: Batch) -> Tensor:
        features = batch.features(self.extractor)
        f = kernels.kernel_precision(features)
        value = self.fit.log_density(f)
        if self.score is not None:
            score = self.score[batch.rows][: len(f)]  # behind the particles comes what was seen
            value = value.detach() + (score * (f - f.detach())).sum(1)
        return value.to(features.dtype)


@dataclass(frozen=True, eq=False)
class References:
    """Features [M, D] of real examples, with the density that was last fitted to them.

    The examples do not move and settings rarely do, while a fit takes M^3 operations.
    """

    features: Tensor
    _last: dict[tuple[object, ...], Fit] = field(default_factory=dict, init=False, repr=False)

    def fit(
        self, estimator: Estimator, bandwidth: Bandwidth | float, eta: str | float, *, mollifier: float = 0.0
    ) -> Fit:
        """Eq. 5. mollifier: its width in feature space, as of `kernels.mollified_bandwidth`.

        Stein's estimator gives scores of the particles themselves, no density of something else, and its bandwidth
        is none of a density: in its place, KDE with the bandwidth "nearest".
        """
        if estimator == "stein":
            estimator, bandwidth = "kde", "nearest"
        key = (estimator, bandwidth, eta, mollifier)
        if key not in self._last:
            anchors = kernels.kernel_precision(self.features.detach())
            h = kernels.choose_bandwidth(kernels.squared_distances(anchors, anchors), bandwidth)
            h = kernels.mollified_bandwidth(h, mollifier)
            kernel = kernels.log_kernel(anchors, anchors, h).exp()
            self._last.clear()
            self._last[key] = Fit(anchors, density.weights(kernel, estimator, eta), h)
        return self._last[key]


@dataclass(frozen=True, eq=False)
class DataDensity(Estimated):
    """B_i = log p(x_i), the density of M real examples (Eq. 5), by the same estimator as A.

    In image space the mollifier averages the kernel over noisy copies of the particle (of the examples no pictures are
    kept), which is the same convolution of k(x, x') where k depends on x - x' alone; the weights alpha are then those
    of the plain kernel.
    """

    extractor: Extractor
    references: References
    name: str = field(default="data", kw_only=True)

    def log_value(self, batch: Batch) -> Tensor:
        in_images = self.mollifier_space == "image" and self.mollifier > 0
        mollifier = 0.0 if in_images else self.mollifier
        fit = self.references.fit(self.estimator, self.bandwidth, self.eta, mollifier=mollifier)
        if in_images:
            noisy = NoisyFeatures(self.extractor, self.mollifier, self.mollifier_samples, self.seed, batch.step)
            features = batch.features(noisy)
            log_kernel = kernels.sampled_log_kernel(fit.anchors, kernels.kernel_precision(features), fit.h).T
            value = density.log_density(log_kernel, fit.alpha)
        else:
            features = batch.features(self.extractor)
            value = fit.log_density(kernels.kernel_precision(features))
        return value.to(features.dtype)


@dataclass(frozen=True)
class AugmentedFeatures:
    """Features [N, cutouts, D] of augmented views of every image; drawn from (seed, step), shared by all."""

    extractor: Extractor
    cutouts: int
    seed: int
    step: int

    def __call__(self, images: Tensor) -> Tensor:
        generator = seeded("cutouts", self.seed, self.step)
        views = [random_view(images, generator) for _ in range(self.cutouts)]
        return torch.stack([self.extractor(view) for view in views], dim=1)


def random_view(images: Tensor, generator: torch.Generator) -> Tensor:
    """One random view, the same for all images: [N, 3, H, W] -> the same shape.

    A square of 70-100 % of the side, turned by up to 8 degrees, mirrored half of the time, contrast and
    brightness changed by up to 10 %: changes that no caption mentions.
    """
    crop, turn, mirror, x, y, contrast, brightness = torch.rand(7, generator=generator).tolist()
    side = 0.7 + 0.3 * crop
    angle = math.radians(16 * turn - 8)
    cos, sin = side * math.cos(angle), side * math.sin(angle)
    sign = -1.0 if mirror < 0.5 else 1.0
    affine = images.new_tensor(
        [[sign * cos, -sin, (1 - side) * (2 * x - 1)], [sign * sin, cos, (1 - side) * (2 * y - 1)]]
    )
    grid = F.affine_grid(affine.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    view = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return (0.9 + 0.2 * contrast) * view + (0.2 * brightness - 0.1)


@dataclass(frozen=True, eq=False)
class TextLikelihood:
    """C_i = log p(text | x_i) by CLIP: logit_scale * cos(image, text), text: [D] of length 1.

    With contrast prompts, contrast: [M, D], the log-softmax of the text against them. With cutouts, the mean
    over augmented views.
    """

    extractor: Extractor
    text: Tensor
    contrast: Tensor | None = None
    logit_scale: float = 100.0
    cutouts: int = 0
    seed: int = 0
    name: str = "text"

    def log_value(self, batch: Batch) -> Tensor:
        if self.cutouts == 0:
            return self._log_likelihood(batch.features(self.extractor))
        return self._log_likelihood(batch.features(self._views(batch.step))).mean(1)

    def _views(self, step: int) -> AugmentedFeatures:
        return AugmentedFeatures(self.extractor, self.cutouts, self.seed, step)

    def _log_likelihood(self, features: Tensor) -> Tensor:
        """[..., D] -> [...]"""
        if self.contrast is None:
            return self.logit_scale * (features @ self.text)
        texts = torch.cat([self.text[None], self.contrast])
        return (self.logit_scale * (features @ texts.T)).log_softmax(-1)[..., 0]


@dataclass(frozen=True, eq=False)
class Realism:
    """A discriminator's logit [N] or [N, 1]: the log-density ratio of real to generated pictures.

    Each picture is judged for itself: with a minibatch statistic a particle would depend on its chunk. head: its last
    layer, where `discriminator` gives what is before it [N, D], so that repulsion in these features costs nothing more.
    """

    discriminator: Extractor
    head: Callable[[Tensor], Tensor] | None = None
    name: str = "realism"

    def log_value(self, batch: Batch) -> Tensor:
        found = batch.features(self.discriminator)
        return (found if self.head is None else self.head(found)).reshape(len(batch))


@runtime_checkable
class Matcher(Protocol):
    """A discriminator that is told what a picture should show: images -> features [N, ...], each for itself."""

    def __call__(self, images: Tensor) -> Tensor: ...

    def match(self, features: Tensor, sentences: Tensor) -> Tensor:
        """Features and sentence vectors [N, C] -> logits [N, 1]: large where it is real and shows the sentence."""
        ...


@dataclass(frozen=True, eq=False)
class Matching:
    """The matching-aware logit [N] of a picture and its particle's sentence (Tao et al. 2022): C by a discriminator.

    sentences: latents [N, *shape] -> sentence vectors [N, C].
    """

    discriminator: Matcher
    sentences: Callable[[Tensor], Tensor]
    name: str = "match"

    def log_value(self, batch: Batch) -> Tensor:
        logits = self.discriminator.match(batch.features(self.discriminator), self.sentences(batch.latents))
        return logits.reshape(len(batch))


@dataclass(frozen=True, eq=False)
class DomainLogit:
    """C_i = log p(domain | x_i) up to a constant: a multi-domain discriminator's logit of one domain.

    head: the discriminator's last layer, its features [N, D] -> logits [N, K]. The features are those of `extractor`,
    so that repulsion in them costs nothing more.
    """

    extractor: Extractor
    head: Callable[[Tensor], Tensor]
    domain: int
    name: str = "domain"

    def log_value(self, batch: Batch) -> Tensor:
        return self.head(batch.features(self.extractor))[:, self.domain]


@dataclass(frozen=True, eq=False)
class StyleLikelihood:
    """C_i = log p(reference | x_i): the style read from a picture is the reference's, up to normal errors.

    -mean((read - wanted)^2 / (2 sigma^2 deviation^2)) over the numbers of a style. extractor: images -> features;
    head: features -> styles [N, S]; wanted: [N, S], of each particle's reference; deviation: [S].
    """

    extractor: Extractor
    head: Callable[[Tensor], Tensor]
    wanted: Tensor
    deviation: Tensor
    sigma: float = 0.5
    name: str = "reference"

    def log_value(self, batch: Batch) -> Tensor:
        errors = (self.head(batch.features(self.extractor)) - self.wanted[batch.rows]) / self.deviation
        return -errors.square().mean(1) / (2 * self.sigma**2)


@runtime_checkable
class Coded(Protocol):
    """A latent space of code vectors."""

    def code_distance(self, latents: Tensor) -> Tensor:
        """sum_i |z_i - e_i|^2 with e_i the code nearest to z_i: [N]."""
        ...

    def snapped(self, latents: Tensor, share: float) -> Tensor:
        """The latents moved by `share` of their way to those of the nearest codes."""
        ...


@dataclass(frozen=True, eq=False)
class NearestCode:
    """-1/2 sum_i |z_i - e_i|^2: code vectors stay near what the generator was trained on (Zhou et al. 2022, App. E)."""

    space: Coded
    name: str = "nearest code"

    def log_value(self, batch: Batch) -> Tensor:
        return -0.5 * self.space.code_distance(batch.latents)


@dataclass(frozen=True, eq=False)
class LatentPrior:
    """log p(z) of the latent space: a pull to where the generator was trained."""

    space: LatentSpace
    name: str = "prior"

    def log_value(self, batch: Batch) -> Tensor:
        return self.space.log_prior(batch.latents)


@dataclass(frozen=True, eq=False)
class TransportCost:
    """-|z_i - z0_i + SHIFT|, what an optimal transport pays for the way from its start (Tanaka 2019, Algorithm 2).

    start: [N, *latent_shape], of the first N particles and on.
    """

    start: Tensor
    name: str = "transport"

    def log_value(self, batch: Batch) -> Tensor:
        return -(batch.latents - self.start[batch.rows][: len(batch)] + TRANSPORT_SHIFT).flatten(1).norm(dim=1)


@dataclass(frozen=True, eq=False)
class KnownPixels:
    """C_i = log p(known pixels | x_i): Gaussian errors of standard deviation `sigma`, averaged over what is known.

    -mean |x_i - target|^2 / (2 sigma^2) over colours and pixels, these weighted by known: [1, 1, H, W] in [0, 1];
    target: [1, 3, H, W] in [-1, 1]. A mean, so that the size of the hole does not change the term's strength.
    """

    target: Tensor
    known: Tensor
    sigma: float = 0.1
    name: str = "known pixels"

    def log_value(self, batch: Batch) -> Tensor:
        squares = (batch.images - self.target).square().mean(1, keepdim=True)
        mean = (self.known * squares).flatten(1).sum(1) / self.known.sum().clamp_min(1e-6)
        return -mean / (2 * self.sigma**2)


@dataclass(frozen=True, eq=False)
class Composed:
    """Features of pictures whose known pixels are the given ones: what differs then differs in the hole.

    hole: [1, 1, H, W] in [0, 1]; target: [1, 3, H, W]. Images [N, 3, H, W] -> [N, D]; no gradient reaches what is
    known.
    """

    extractor: Extractor
    target: Tensor
    hole: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        return self.extractor(self.compose(images))

    def compose(self, images: Tensor) -> Tensor:
        """hole * images + (1 - hole) * target."""
        return torch.lerp(self.target, images, self.hole)


@dataclass(frozen=True, eq=False)
class EditDirection:
    """C_i = <direction, s(z_i)>, whose gradient in s is the edit's direction (Zhou et al. 2022 with StyleCLIP's).

    direction: [S], or [N, S] for one each; styles: latents [N, ...] -> [N, S], the latents themselves if None. With
    `goal`, -(<direction, s> - goal)^2 / 2: the same direction, until it was followed that far.
    """

    direction: Tensor
    styles: Callable[[Tensor], Tensor] | None = None
    goal: Tensor | None = None  # [N]
    name: str = "edit direction"

    def log_value(self, batch: Batch) -> Tensor:
        latents = batch.latents
        styles = latents.flatten(1) if self.styles is None else self.styles(latents)
        direction = self.direction if self.direction.dim() == 1 else self.direction[batch.rows]
        followed = (styles * direction).sum(1)
        return followed if self.goal is None else -0.5 * (followed - self.goal[batch.rows]).square()


@dataclass(frozen=True, eq=False)
class DistanceToStart:
    """C_i = -|z_i - start_i|^2 / 2: a pull back to where the particle began. start: [N, *latent_shape]."""

    start: Tensor
    name: str = "identity"

    def log_value(self, batch: Batch) -> Tensor:
        return -0.5 * (batch.latents - self.start[batch.rows]).flatten(1).square().sum(1)

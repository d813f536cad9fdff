"""StyleCLIP (Patashnik et al. 2021): the editing baselines, and the edit direction that our own edit follows.

The global direction: how each style channel moves the CLIP features of pictures is measured once per generator
and prompt model (`compute_directions`); an edit is the channels that move them as the texts differ. The latent
optimisation: Adam on W+ against 1 - cos(picture, text).

Our own edit follows a direction of W, by the same rule: there the features of random pictures are regressed on
their w, which takes 4,000 pictures instead of 200 for every channel, and sees colours too, which ToRGB makes.
S styles, C coordinates of W or S, D features.
"""

import math
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.checkpoints import read_safetensors, write_safetensors
from engine.errors import ModelError, SaveError
from engine.inference.flow import DivergenceError, Evaluated, Particles, Problem, Step, describe
from engine.inference.terms import Batch, Stage
from engine.latents.styles import StyledSynthesis
from engine.models.table import ASSETS
from engine.settings import FlowSettings, SettingsError
from engine.system.folders import cache_folder
from engine.tasks.inversion import Renderer

if TYPE_CHECKING:
    from engine.models.clip import PromptModel
    from engine.models.loading import GeneratorModel

Space = Literal["w", "s"]
SPACES: tuple[Space, ...] = ("w", "s")

# The published numbers.
IMAGES = 100  # on which every channel is tried
MOVE = 5.0  # standard deviations of the channel, to either side
ADAM_RATE = 0.1
RAMP_UP = 0.05  # shares of the steps
RAMP_DOWN = 0.25
LATENT_WEIGHT = 0.008  # of |w - w_start|^2

STATISTICS_SAMPLES = 10_000
SMALLEST_CHANGE = 1e-6  # of the features; a smaller one is rounding
BATCH = 16  # pictures rendered at once
CHANNELS_BETWEEN_SAVES = 32

FEWEST = 3  # coordinates that an edit moves, however high beta is
W_SAMPLES = 4_000  # random pictures on which the features are regressed on w
W_RIDGE = 0.02  # relative to the coordinates' variance

TEMPLATES = (
    "{}", "a picture of {}", "a drawing of {}", "a portrait of {}", "an image of {}", "a cartoon of {}",
    "an avatar of {}", "an illustration of {}",
)  # fmt: skip


class DirectionsMissingError(SettingsError):
    """An edit needs the channel-to-CLIP matrix of two models that nobody computed yet."""

    def __init__(self, generator: str, prompt_model: str, space: Space) -> None:
        super().__init__(
            f"The edit directions of {generator} with {prompt_model} in {space.upper()} are not known yet. Compute "
            f"them once: python -m engine directions --space {space} --model {generator} --prompt-model {prompt_model}"
        )
        self.space = space


# ---- the channel-to-CLIP matrix --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Directions:
    """How the coordinates of a space move the features: of S (StyleCLIP's matrix) or of W (ours).

    matrix: [C, D], per coordinate the direction of the features when it grows by one standard deviation: of length 1
    in S, 0 for channels that are not edited; in W as long as the change, shrunk by its error. std: [C].
    """

    matrix: Tensor
    std: Tensor

    def relevance(self, text_direction: Tensor) -> Tensor:
        """How each coordinate agrees with a direction [D] of length 1 in feature space: [C], in [-1, 1]."""
        return self.matrix @ text_direction / self.matrix.norm(dim=1).clamp_min(SMALLEST_CHANGE)

    def edit(self, text_direction: Tensor, beta: float) -> Tensor:
        """StyleCLIP's change of the coordinates [C] for alpha = 1: effect / its maximum * std, 0 below `beta`."""
        effect = self.matrix @ text_direction
        kept = torch.where(self.is_relevant(text_direction, beta), effect, 0)
        return kept / kept.abs().max().clamp_min(SMALLEST_CHANGE) * self.std

    def is_relevant(self, text_direction: Tensor, beta: float) -> Tensor:
        """The coordinates with |relevance| >= beta, bool [C]; where fewer than FEWEST have it, the FEWEST best."""
        relevance = self.relevance(text_direction).abs()
        best = relevance.topk(min(FEWEST, len(relevance))).values[-1]
        return relevance >= min(beta, best.item())


def text_direction(prompt_model: "PromptModel", target: str, neutral: str) -> Tensor:
    """From what it is to what it should be: the unit difference [D] of the texts' features over TEMPLATES.

    Raises SettingsError if the prompt model cannot tell the two apart.
    """
    ends = [averaged_text(prompt_model, text) for text in (target, neutral)]
    difference = ends[0] - ends[1]
    if difference.norm() < SMALLEST_CHANGE:
        raise SettingsError("prompt: says the same as what the picture is now; say what should become different.")
    return F.normalize(difference, dim=0)


def averaged_text(prompt_model: "PromptModel", text: str) -> Tensor:
    """The unit mean of a text's features over TEMPLATES: [D]."""
    features = prompt_model.text_features([template.format(text) for template in TEMPLATES])
    return F.normalize(features.mean(0), dim=0)


def feature_change(before: Tensor, after: Tensor) -> Tensor:
    """The unit mean over pictures of the unit change of their features [N, D]; 0 where nothing changes. -> [D]."""
    changes = after - before
    lengths = changes.norm(dim=1, keepdim=True)
    units = torch.where(lengths > SMALLEST_CHANGE, changes / lengths.clamp_min(SMALLEST_CHANGE), 0)
    mean = units.mean(0)
    return mean / mean.norm().clamp_min(SMALLEST_CHANGE)


@torch.no_grad()
def compute_directions(
    generator: "GeneratorModel",
    prompt_model: "PromptModel",
    space: Space = "w",
    *,
    path: Path | None = None,
    count: int | None = None,
) -> Generator[tuple[int, int], None, None]:
    """Measures the directions of W or S and writes them to `path` (the cache); yields (pictures done, all).

    count: random pictures that W's are regressed on (W_SAMPLES), or that every channel of S is tried on (IMAGES).
    What was measured of S is written in between: started again, it goes on where it was. Raises SaveError, and
    SettingsError for a count too small to measure on and for a generator that is no StyleGAN2.
    """
    Renderer(generator)  # raises
    measure, usual, fewest = (_measured_w, W_SAMPLES, 2) if space == "w" else (_measured_s, IMAGES, 1)
    count = usual if count is None else count
    if count < fewest:
        raise SettingsError(f"count: {count} is too small to measure {space.upper()} on; give {fewest} or more.")
    path = path or directions_folder() / file_name(generator, prompt_model, space)
    yield from measure(generator, prompt_model, path, count)


def _measured_w(
    generator: "GeneratorModel", prompt_model: "PromptModel", path: Path, count: int
) -> Iterator[tuple[int, int]]:
    """Ridge regression of the features on the standardised w of random pictures."""
    w = _random_w(generator, count)
    features, draw = [], generator.sketch or generator.synthesize
    for done, part in enumerate(w.split(BATCH), 1):
        features.append(prompt_model.image_features(draw(part, generator.spaces["w"])))
        yield min(done * BATCH, count), count
    std = w.std(0).clamp_min(SMALLEST_CHANGE)
    _save(path, {"matrix": regression((w - w.mean(0)) / std, torch.cat(features)), "std": std})


def regression(coordinates: Tensor, features: Tensor, *, ridge: float = W_RIDGE) -> Tensor:
    """Slopes [C, D] of features [N, D] over standardised coordinates [N, C], each shrunk by its own error.

    A slope b of squared error e becomes b |b|^2 / (|b|^2 + e), so that what was not seen in N pictures stays small.
    """
    x = coordinates.double()
    y = (features - features.mean(0)).double()
    count, size = x.shape
    inverse = torch.linalg.inv(x.T @ x + ridge * count * torch.eye(size, dtype=x.dtype, device=x.device))
    slopes = inverse @ x.T @ y
    variance = (y - x @ slopes).square().sum() / max(count - size, 1)
    errors = inverse.diagonal() * variance
    squares = slopes.square().sum(1)
    worth = squares / (squares + errors).clamp_min(torch.finfo(x.dtype).tiny)  # both are 0 where nothing changes
    return (slopes * worth[:, None]).to(features)


def _measured_s(
    generator: "GeneratorModel", prompt_model: "PromptModel", path: Path, count: int
) -> Iterator[tuple[int, int]]:
    """StyleCLIP's matrix: each channel moved by MOVE standard deviations to either side on `count` pictures.

    Of a generator with drafts, which edits look at, the channels that they depend on.
    """
    partial = path.with_suffix(".part")
    synthesis, side = StyledSynthesis(generator.network.synthesis), generator.draft_resolution
    w = _random_w(generator, max(count, STATISTICS_SAMPLES))
    samples = synthesis.styles(w[:, None].expand(-1, generator.network.num_ws, -1))
    starts, std = samples[:count], samples.std(0)
    measured = synthesis.editable & synthesis.of_draft(side) if side else synthesis.editable
    channels = measured.nonzero()[:, 0].tolist()
    matrix, done = _resumed(partial, synthesis.size, count)
    for i in range(done, len(channels)):
        row = _measured_channel(synthesis, prompt_model, starts, channels[i], MOVE * std[channels[i]], side or None)
        if matrix.numel() == 0:
            matrix = row.new_zeros(synthesis.size, len(row))
        matrix[channels[i]] = row
        if (i + 1) % CHANNELS_BETWEEN_SAVES == 0:
            with suppress(SaveError):  # where there is no room, an interrupted measuring begins anew
                _save(partial, {"matrix": matrix, "done": torch.tensor([i + 1, count])})
        yield 2 * count * (i + 1), 2 * count * len(channels)
    _save(path, {"matrix": matrix, "std": std})
    partial.unlink(missing_ok=True)


def _random_w(generator: "GeneratorModel", count: int) -> Tensor:
    """w [count, w_dim] of random pictures, the first ones the same for every count."""
    space = generator.spaces["w"]
    return torch.cat([space.decode(space.sample([seed])) for seed in range(count)])


def _measured_channel(
    synthesis: StyledSynthesis,
    prompt_model: "PromptModel",
    starts: Tensor,
    channel: int,
    move: Tensor,
    side: int | None,
) -> Tensor:
    ends = []
    for sign in (-1, 1):
        moved = starts.clone()
        moved[:, channel] += sign * move
        parts = [prompt_model.image_features(synthesis(part, side)) for part in moved.split(BATCH)]
        ends.append(torch.cat(parts))
    return feature_change(*ends)


def _resumed(partial: Path, size: int, count: int) -> tuple[Tensor, int]:
    """The matrix so far and how many of its channels are done; nothing if the file is missing or does not fit."""
    try:
        stored = read_safetensors(partial)
        done, of = stored["done"].tolist()
        if of == count and len(stored["matrix"]) == size:
            return stored["matrix"], done
    except (ModelError, KeyError, ValueError):
        pass
    return torch.empty(0), 0


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(path, tensors)
    except OSError as error:
        raise SaveError(f"{path} could not be saved: {error.strerror or error}. Free space and start again.") from error


def directions_folder() -> Path:
    """Where this machine keeps what it measured."""
    return cache_folder() / "directions"


def bundle_folder(generator: "GeneratorModel", assets: Path = ASSETS) -> Path | None:
    """The folder of a bundled generator, where its directions are shipped; None for a person's own file."""
    folder = assets / Path(generator.name).name
    return folder if folder.is_dir() and generator.name == folder.name else None


def file_name(generator: "GeneratorModel", prompt_model: "PromptModel", space: Space) -> str:
    """Of the pair's directions: other weights, another file."""
    return f"directions-{space}-{generator.sha256[:16]}-{prompt_model.sha256[:16]}.safetensors"


def find_directions(generator: "GeneratorModel", prompt_model: "PromptModel", space: Space = "w") -> Directions | None:
    """The shipped or computed directions of the pair, None if there are none."""
    name = file_name(generator, prompt_model, space)
    for folder in (bundle_folder(generator), directions_folder()):
        if folder is not None and (folder / name).is_file():
            stored = read_safetensors(folder / name)
            device = next(generator.network.parameters()).device
            return Directions(stored["matrix"].to(device), stored["std"].to(device))
    return None


def require_directions(generator: "GeneratorModel", prompt_model: "PromptModel", space: Space) -> Directions:
    """The same. Raises DirectionsMissingError if there are none."""
    directions = find_directions(generator, prompt_model, space)
    if directions is None:
        raise DirectionsMissingError(generator.name, prompt_model.name, space)
    return directions


# ---- the latent optimisation -----------------------------------------------------------------------------


def rate_at(step: int, steps: int) -> float:
    """The learning rate: ramped up over the first RAMP_UP of the steps, down by a cosine over the last RAMP_DOWN."""
    progress = step / steps
    ramp = min(1.0, (1 - progress) / RAMP_DOWN)
    return ADAM_RATE * (0.5 - 0.5 * math.cos(math.pi * ramp)) * min(1.0, progress / RAMP_UP)


def optimise(
    problem: Problem, particles: Particles, settings: FlowSettings
) -> Generator[Step, FlowSettings | None, None]:
    """Adam on the sum of the problem's conditions, every particle for itself; yields what `flow.refine` yields.

    Of the settings only `steps` and `chunk` count. Adam's moments travel in the particles: restarting from any step's
    continues bit for bit. Raises DivergenceError when latents or pictures are no longer numbers.
    """
    latents = particles.latents.clone()
    adam = torch.optim.Adam([latents], lr=ADAM_RATE)
    if particles.momentum is not None:
        adam.state[latents] = _copied(particles.momentum)
    last_good: Step | None = None
    while True:
        started = time.perf_counter()
        generated = Stage(problem.render, latents, settings.chunk)
        if not (latents.isfinite().all() and generated.output.isfinite().all()):
            raise DivergenceError("The pictures no longer consist of numbers.", "steps", settings, last_good)
        batch = Batch(latents, generated.output, step=particles.step, chunk=settings.chunk)
        with torch.enable_grad():
            values = [weight * term.log_value(batch) for term, weight in problem.conditions]
        terms = [
            Evaluated("C", term, weight, "condition_weight", value)
            for (term, weight), value in zip(problem.conditions, values, strict=True)
        ]
        step = describe(problem, particles, batch, terms, settings, time.perf_counter() - started)
        last_good = step

        settings = (yield step) or settings

        if particles.step >= settings.steps:
            return
        by_images, by_latents = batch.gradients(values)
        (through_images,) = generated.pull_back([torch.stack(by_images).sum(0)])
        latents.grad = -(through_images + torch.stack(by_latents).sum(0))
        for group in adam.param_groups:
            group["lr"] = rate_at(particles.step, settings.steps)
        adam.step()
        momentum = _copied(adam.state[latents])  # Adam goes on with its own, in place
        particles = Particles(latents.clone(), particles.seeds, particles.step + 1, momentum)


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}

"""A run of the lab, frame by frame: positions, vectors, distance to the target, coverage.

A batch of frames is a function of the settings and the state that the batch before ended at: nothing is kept in between
but what is quickly made again.
"""

import time
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from engine.inference.flow import DivergenceError
from engine.inference.terms import References
from engine.lab.networks import exact_networks, read_networks
from engine.lab.sampling import STREAMS, VECTORS, Scene, State, vectors
from engine.lab.settings import DRAWING, EDGE, LabSettings
from engine.lab.targets import SETS, Strokes, Target, drawing
from engine.latents.spaces import seeded
from engine.metrics.transport import earth_movers_distance
from engine.models.table import ASSETS
from engine.settings import SettingsError

NETWORKS = ASSETS / "lab" / "networks.safetensors"
LEAST_REFERENCES = 256  # examples that B is estimated from: as many as particles, and no fewer
MOST_MEASURED = 128  # particles that the distance is taken of, the first ones: the exact one takes N^3 steps
HELD_OUT = 512  # samples of the target that coverage is taken of
FURTHEST = 100.0  # from the middle of the plane that anything is followed
GLOW, GLOW_SHARE = 0.11, 0.4  # its width in the plane, and how bright it is
GRID = 192  # cells of the picture of the density, each way


class Frame(NamedTuple):
    """positions: [N, 2]; vectors: [3, N, 2], A, B and C as of `sampling.vectors`, zero where there is none, or none,
    [0, N, 2], where they were not asked for."""

    state: State
    positions: Tensor
    vectors: Tensor
    distance: float
    coverage: float


@lru_cache(maxsize=16)
def find_target(name: str, strokes: Strokes = ()) -> Target:
    """A set by its name, or the drawing of the strokes."""
    return drawing(strokes) if name == DRAWING else SETS[name]()


@lru_cache(maxsize=16)
def scene_of(name: str, strokes: Strokes, generator: str, n: int, seed: int) -> tuple[Scene, Tensor]:
    """The scene, and held-out samples [M, 2] of its target. Two sides with equal choices begin alike."""
    target = find_target(name, strokes)
    many = max(n, LEAST_REFERENCES)
    scene = Scene(
        target=target,
        networks=exact_networks(target) if generator == "none" else read_networks(NETWORKS, name),
        latents=torch.randn(n, 2, generator=seeded("lab latents", seed)),
        real=target.sample(n, seeded("lab real", name, seed)),
        references=References(target.sample(many, seeded("lab references", name, seed))),
    )
    return scene, target.sample(max(HELD_OUT, MOST_MEASURED), seeded("lab held out", name, seed))


def frames(settings: LabSettings, state: State | None = None, *, with_vectors: bool = True) -> Iterator[Frame]:
    """From the first state on, or from the one after `state`. Raises SettingsError where particles run away."""
    scene, held_out = scene_of(settings.target, settings.strokes, settings.generator, settings.n, settings.seed)
    stream = STREAMS[settings.sampler](scene, settings, state or State(scene.latents))
    if state is not None:
        next(stream, None)
    try:
        for found in stream:
            yield _frame(scene, settings, found, held_out, with_vectors)
    except DivergenceError as error:
        raise ran_away(settings) from error


def ran_away(settings: LabSettings) -> SettingsError:
    """What to do where particles leave the plane, or the numbers."""
    return SettingsError(
        f"{settings.sampler}: the particles ran away. Lower the step size (now {settings.step:g}), or the weights."
    )


def _frame(scene: Scene, settings: LabSettings, state: State, held_out: Tensor, with_vectors: bool) -> Frame:
    with torch.no_grad():
        positions = scene.networks.generator(state.latents)
    if not positions.abs().max() <= FURTHEST:
        raise ran_away(settings)
    moves = vectors(scene, settings, state) if with_vectors else {}
    still = torch.zeros_like(positions)
    count = min(len(positions), MOST_MEASURED)
    return Frame(
        state=state,
        positions=positions,
        vectors=torch.stack([moves.get(name, still) for name in VECTORS]) if with_vectors else still[None][:0],
        distance=earth_movers_distance(held_out[:count], positions[:count]),
        coverage=scene.target.coverage(positions, held_out),
    )


def batch(
    settings: LabSettings, state: State | None, *, most: int, seconds: float, with_vectors: bool = True
) -> list[Frame]:
    """As many frames as there is time for: one at least where the run has not ended, `most` at most.

    Raises SettingsError where the particles run away at once.
    """
    until, found = time.monotonic() + seconds, []
    try:
        for frame in frames(settings, state, with_vectors=with_vectors):
            found.append(frame)
            if len(found) >= most or time.monotonic() >= until:
                break
    except SettingsError:
        if not found:
            raise
    return found


@lru_cache(maxsize=16)
def density_picture(name: str, strokes: Strokes = ()) -> bytes:
    """The density on a grid, to be looked at: GRID rows from the top, of one byte a cell.

    The root of the density, its highest value 255, with a glow around it by which narrow peaks are seen.
    """
    target = find_target(name, strokes)
    core = _on_grid(target.centres, target.sigma).sqrt()
    glow = _on_grid(target.centres, (target.sigma**2 + GLOW**2) ** 0.5)
    shown = (1 - GLOW_SHARE) * core + GLOW_SHARE * glow
    return bytes((255 * shown / shown.max()).round().to(torch.uint8).flatten().tolist())


def _on_grid(centres: Tensor, sigma: float) -> Tensor:
    """A mixture of Gaussians, its highest value 1: [GRID, GRID]. Each is a product, of what it is along x and y."""
    axis = torch.linspace(-EDGE, EDGE, 2 * GRID + 1)[1::2]
    x, y = (torch.exp(-(axis - along[:, None]).square() / (2 * sigma**2)) for along in centres.T)
    density = (y.T @ x).flip(0)
    return density / density.max()

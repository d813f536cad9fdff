"""Stage 1 of the avatars: teach the StyleGAN2 synthesis network to draw any traits.

    python -m training.avatars.synthesis

It grows: 32 px, 64 px, then 128 px (`PHASES`); a new block's torgb starts at 0, so growing changes no picture.
w is the traits, shifted and scaled to unit variance per coordinate: a linear space of attributes by
construction. The loss is L1 at several scales, on image gradients, and on the stages of a frozen classifier
(the `tower`, never the judge).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.checkpoints import read_safetensors
from engine.networks.mini_tower import MiniTower
from engine.networks.stylegan2 import Generator
from training.avatars import classifier, pool, traits
from training.jobs import Average, Job, save_sheet, set_schedule, shrink, to_tensor, trained

FOLDER = Path("training/runs/avatars/synthesis")
RESOLUTION = 128
CHANNELS = {4: 128, 8: 128, 16: 128, 32: 96, 64: 48, 128: 16}
PHASES = ((32, 32, 2400), (64, 16, 2400), (128, 16, 4400))  # resolution, batch, steps
Z_DIM = traits.latent_size()
W_DIM = traits.SIZE


def build() -> Generator:
    """The avatars' generator with untrained weights: W is the space of traits, one w for every layer."""
    return Generator(Z_DIM, 0, W_DIM, RESOLUTION, channels=CHANNELS, mapping_layers=4, layer_features=512)


def to_w(rows: np.ndarray, statistics: tuple[np.ndarray, np.ndarray]) -> Tensor:
    """Traits [N, SIZE] -> w [N, W_DIM]."""
    mean, deviation = statistics
    return torch.from_numpy(((rows - mean) / deviation).astype(np.float32))


def synthesize(generator: Generator, w: Tensor, resolution: int = RESOLUTION) -> Tensor:
    """w [N, W_DIM] -> images [N, 3, resolution, resolution]; below 128 the later blocks are left out."""
    network = generator.synthesis
    ws = w[:, None].expand(-1, network.num_ws, -1)
    x = images = None
    for i, size in enumerate(network.block_resolutions):
        if size <= resolution:
            block = network.get_submodule(f"b{size}")
            x, images = block(x, images, ws[:, max(0, 2 * i - 1) :], noise_mode="none", generator=None)
    assert images is not None
    return images


def load_average() -> Generator:
    """The newest averaged weights; FileNotFoundError says how to make them."""
    generator = build()
    generator.load_state_dict(trained(FOLDER / "state.pt", "training.avatars.synthesis")["parts"]["average"])
    return generator.eval().requires_grad_(False)


def image_gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    return images[..., 1:] - images[..., :-1], images[..., 1:, :] - images[..., :-1, :]


def face_weight(size: int, strength: float) -> Tensor:
    """Weights [size, size] that count the eyes, nose and mouth up to 1 + `strength` times."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    return 1 + strength * torch.exp(-(((x - 0.5) / 0.17) ** 4) - ((y - 0.54) / 0.17) ** 4)


def drawing_loss(made: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Weighted L1 at full size, of 4-pixel averages, and of the gradients (edges are most of a flat drawing)."""
    loss = ((made - wanted).abs() * weight).mean()
    loss = loss + 0.5 * (F.avg_pool2d(made, 4) - F.avg_pool2d(wanted, 4)).abs().mean()
    for ours, theirs, part in zip(
        image_gradients(made), image_gradients(wanted), (weight[..., 1:], weight[..., 1:, :]), strict=True
    ):
        loss = loss + ((ours - theirs).abs() * part).mean()
    return loss


def feature_loss(tower: MiniTower, made: Tensor, wanted: Tensor) -> Tensor:
    """L1 of the tower's stage outputs, each divided by the mean size of the wanted ones."""
    ours = tower.forward_stages(made)
    with torch.no_grad():
        theirs = tower.forward_stages(wanted)
    ratios = [(a - b).abs().mean() / b.abs().mean() for a, b in zip(ours, theirs, strict=True)]
    return torch.stack(ratios).mean()


def phase_at(step: int) -> tuple[int, int]:
    """Resolution and batch size at a step."""
    for resolution, batch, steps in PHASES:
        if step < steps:
            return resolution, batch
        step -= steps
    return PHASES[-1][:2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=sum(steps for *_, steps in PHASES))
    parser.add_argument("--rate", type=float, default=1.5e-2)
    parser.add_argument("--from-bundle", action="store_true", help="start from assets/avatars, at 128 px")
    parser.add_argument("--face-weight", type=float, default=3.0, help="extra weight of eyes, nose and mouth")
    arguments = parser.parse_args()
    torch.manual_seed(3)
    data, statistics = pool.open_pool(), traits.statistics()
    generator = build()
    with torch.no_grad():
        for resolution, *_ in PHASES[1:]:
            generator.get_parameter(f"synthesis.b{resolution}.torgb.weight").zero_()
    # beta_1 = .9 and eight times the usual rate: measured here, the error after 160 steps is .175, not .29.
    optimizer = torch.optim.Adam(generator.synthesis.parameters(), lr=arguments.rate, betas=(0.9, 0.99))
    average = Average(generator, 0.998)
    job = Job(FOLDER)
    if arguments.from_bundle:
        generator.load_state_dict(read_safetensors(Path("assets/avatars/generator.safetensors")))
        average = Average(generator, 0.998)
        job.step = sum(steps for *_, steps in PHASES[:-1])
    job.resume(generator=generator, optimizer=optimizer, average=average)
    tower = classifier.load("tower")
    while job.step < arguments.steps:
        resolution, batch = phase_at(job.step)
        rows = np.sort(np.random.default_rng((3, job.step)).integers(len(data), size=batch))
        set_schedule(optimizer, job.step, arguments.steps, arguments.rate)
        wanted, w = shrink(to_tensor(data.images[rows]), resolution), to_w(data.asked[rows], statistics)
        with torch.autocast("cpu", torch.bfloat16):
            made = synthesize(generator, w, resolution).float()
        loss = drawing_loss(made, wanted, face_weight(resolution, arguments.face_weight))
        if resolution >= 64:
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss + 0.1 * feature_loss(tower, shrink(made, 64), shrink(wanted, 64)).float()
        optimizer.zero_grad(set_to_none=True)  # blocks that are not in use yet keep their weights
        loss.backward()
        optimizer.step()
        average.update(generator, job.step)
        job.finish_step(loss=loss.item(), l1=(made.detach() - wanted).abs().mean().item())
        if job.step % 1000 == 0:
            save_sheet(job.folder / "latest.png", torch.cat([wanted[:8], made[:8].detach()]))
    job.save()


if __name__ == "__main__":
    main()

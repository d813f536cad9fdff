"""`fashion`: a BigGAN with its projection discriminator, trained on Fashion-MNIST.

    python -m training.fashion.adversarial --steps 20000

Hinge loss, spectral norm in both networks, class-conditional batch norm, hierarchical z, orthogonal initial weights
(Brock et al. 2019); two time scales instead of several discriminator steps (Heusel et al. 2017). The bundled generator
is an exponential average; its batch statistics are taken anew at the export.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.networks.biggan import Discriminator, Generator, draw_weights
from training.fashion import data
from training.jobs import Average, Job, batches, save_sheet
from training.objectives import HINGE

FOLDER = Path("training/runs/fashion/adversarial")
Z_DIM, SHARED_DIM = 64, 32  # z in four chunks: the first grid and three blocks
GENERATOR_CHANNELS = ((96, 96), (96, 64), (64, 32))
DISCRIMINATOR_CHANNELS = ((1, 32, 32), (32, 64, 64), (64, 96, 96), (96, 96, 96))
RATES = {"generator": 2e-4, "discriminator": 4e-4}
DECAY_FROM = 0.6  # of the steps: then both rates fall in a line to 0


def build_generator() -> Generator:
    return Generator(Z_DIM, len(data.CLASSES), SHARED_DIM, channels=GENERATOR_CHANNELS, img_channels=1)


def build_discriminator() -> Discriminator:
    return Discriminator(len(data.CLASSES), channels=DISCRIMINATOR_CHANNELS, down=(True, True, True, False))


def draw_inputs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """z: [N, 64] and classes [N], equally likely."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, Z_DIM, generator=generator), torch.randint(
        len(data.CLASSES), (count,), generator=generator
    )


def make(generator: Generator, z: Tensor, classes: Tensor) -> Tensor:
    """Pictures [N, 1, 32, 32], the convolutions in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        return generator(z, generator.embed_classes(classes)).float()


def judge(discriminator: Discriminator, images: Tensor, classes: Tensor) -> Tensor:
    """Logits [N], the convolutions in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        return discriminator(images, classes).float()[:, 0]


def set_rates(optimizers: Mapping[str, torch.optim.Optimizer], step: int, steps: int) -> None:
    remaining = min(1.0, max(0.0, 1 - step / steps) / (1 - DECAY_FROM))
    for name, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = RATES[name] * remaining


def discriminator_step(
    discriminator: Discriminator, optimizer: torch.optim.Optimizer, real: Tensor, classes: Tensor, made: Tensor,
    asked: Tensor,
) -> dict[str, float]:  # fmt: skip
    """Hinge loss on real and made pictures in one batch."""
    logits = judge(discriminator, torch.cat([real, made]), torch.cat([classes, asked]))
    on_real, on_made = logits.split([len(real), len(made)])
    loss = HINGE.discriminator(on_real, on_made)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return {"loss": loss.item(), "real": on_real.mean().item(), "made": on_made.mean().item()}


def generator_step(
    generator: Generator, discriminator: Discriminator, optimizer: torch.optim.Optimizer, z: Tensor, asked: Tensor
) -> Tensor:
    """Raise the discriminator's logits; returns the pictures, detached."""
    discriminator.requires_grad_(False)
    made = make(generator, z, asked)
    optimizer.zero_grad()
    HINGE.generator(judge(discriminator, made, asked)).backward()
    optimizer.step()
    discriminator.requires_grad_(True)
    return made.detach()


@torch.no_grad()
def averaged_generator(state: dict[str, Tensor], *, batches_seen: int = 100) -> Generator:
    """The averaged weights with batch statistics of their own pictures, frozen.

    An average of weights does not produce the average of statistics: they are measured over 100 batches of 100
    pictures, z as in training. u0 stays as it was averaged.
    """
    generator = build_generator()
    generator.load_state_dict(state)
    sums: dict[str, Tensor] = {}
    norms = {name: module for name, module in generator.named_modules() if hasattr(module, "stored_mean")}
    handles = [
        norm.register_forward_pre_hook(lambda module, inputs, name=name: _add_moments(sums, name, inputs[0]))
        for name, norm in norms.items()
    ]
    kept = {name: buffer.clone() for name, buffer in generator.named_buffers() if name.endswith(("u0", "sv0"))}
    generator.train()
    for i in range(batches_seen):
        z, classes = draw_inputs(100, 900_000_000 + i)
        generator(z, generator.embed_classes(classes))
        generator.load_state_dict(kept, strict=False)
    for handle in handles:
        handle.remove()
    for name, norm in norms.items():
        mean = sums[name][0] / batches_seen
        norm.stored_mean.copy_(mean)
        norm.stored_var.copy_(sums[name][1] / batches_seen - mean.square())
    return generator.eval().requires_grad_(False)


def _add_moments(sums: dict[str, Tensor], name: str, x: Tensor) -> None:
    moments = torch.stack([x.mean(dim=(0, 2, 3)), x.square().mean(dim=(0, 2, 3))]).double()
    sums[name] = sums.get(name, torch.zeros_like(moments)) + moments


@torch.no_grad()
def write_sheet(path: Path, state: dict[str, Tensor]) -> None:
    """Eight pictures of every class."""
    generator = averaged_generator(state, batches_seen=4)
    z, _ = draw_inputs(80, 5)
    classes = torch.arange(len(data.CLASSES)).repeat_interleave(8)
    save_sheet(path, generator(z, generator.embed_classes(classes)).expand(-1, 3, -1, -1))


def parameters(network: nn.Module, rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=rate, betas=(0.0, 0.99))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    pixels, labels = data.load("train")
    generator, discriminator = build_generator(), build_discriminator()
    draw_weights(generator, torch.Generator().manual_seed(41))
    draw_weights(discriminator, torch.Generator().manual_seed(42))
    optimizers = {
        "generator": parameters(generator, RATES["generator"]),
        "discriminator": parameters(discriminator, RATES["discriminator"]),
    }
    average = Average(generator, 0.9995)
    job = Job(FOLDER)
    job.resume(
        generator=generator, discriminator=discriminator, average=average,
        generator_optimizer=optimizers["generator"], discriminator_optimizer=optimizers["discriminator"],
    )  # fmt: skip
    for rows in batches(len(pixels), arguments.batch, 41, job.step):
        if job.step >= arguments.steps:
            break
        set_rates(optimizers, job.step, arguments.steps)
        z, asked = draw_inputs(arguments.batch, job.step)
        made = generator_step(generator, discriminator, optimizers["generator"], z, asked)
        average.update(generator, job.step)
        measures = discriminator_step(
            discriminator, optimizers["discriminator"], data.to_images(pixels[rows]), labels[rows], made, asked
        )
        job.finish_step(**measures)
        if job.step % 500 == 0:
            write_sheet(job.folder / "latest.png", average.state_dict())
    job.save()
    write_sheet(job.folder / "latest.png", average.state_dict())


if __name__ == "__main__":
    main()

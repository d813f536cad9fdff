"""Stage 4 of the avatars: a discriminator, and the synthesis network sharpened against it.

    python -m training.avatars.adversarial --steps 2000

Non-saturating logistic loss with lazy R1 (Karras et al. 2020). The drawing loss stays as an anchor, so no
attribute can be forgotten. Fakes come from the whole neighbourhood of W (the pool's asked traits): blends and
places outside of the prior have to look like avatars too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.networks.stylegan2 import Discriminator
from training.avatars import classifier, pool, synthesis, traits
from training.jobs import Average, Job, batches, save_sheet, shrink, to_tensor

FOLDER = Path("training/runs/avatars/adversarial")
CHANNELS = {4: 128, 8: 128, 16: 96, 32: 64, 64: 32, 128: 16}
R1_EVERY, R1_GAMMA = 16, 2.0


def build_discriminator() -> Discriminator:
    """No minibatch statistics: a particle's realism must not depend on the others."""
    return Discriminator(0, synthesis.RESOLUTION, channels=CHANNELS, mbstd_channels=0)


def r1_penalty(discriminator: Discriminator, images: Tensor) -> Tensor:
    """gamma / 2 |grad D|^2 on real images (Mescheder et al. 2018, Eq. 9), scaled for being lazy."""
    images = images.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean() * (R1_GAMMA / 2 * R1_EVERY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=200, help="steps in which only the discriminator learns")
    parser.add_argument("--adversarial", type=float, default=0.02, help="weight of the adversarial loss")
    arguments = parser.parse_args()
    torch.manual_seed(7)
    data, statistics = pool.open_pool(), traits.statistics()
    generator = synthesis.load_average().requires_grad_(True).train()
    discriminator = build_discriminator()
    synthesis_optimizer = torch.optim.Adam(generator.synthesis.parameters(), lr=5e-4, betas=(0.0, 0.99))
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.0, 0.99))
    average = Average(generator, 0.999)
    average_discriminator = Average(discriminator, 0.998)
    tower, weight = classifier.load("tower"), synthesis.face_weight(synthesis.RESOLUTION, 1.0)
    job = Job(FOLDER)
    job.resume(
        generator=generator, discriminator=discriminator, average=average, average_discriminator=average_discriminator,
        synthesis_optimizer=synthesis_optimizer, discriminator_optimizer=discriminator_optimizer,
    )  # fmt: skip
    for rows in batches(len(data), arguments.batch, 71, job.step):
        if job.step >= arguments.steps:
            break
        real, w = to_tensor(data.images[rows]), synthesis.to_w(data.asked[rows], statistics)
        with torch.autocast("cpu", torch.bfloat16):
            made = synthesis.synthesize(generator, w).float()
        measures = {"l1": (made.detach() - real).abs().mean().item()}
        if job.step >= arguments.warmup:
            loss = synthesis.drawing_loss(made, real, weight)
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss + 0.1 * synthesis.feature_loss(tower, shrink(made, 64), shrink(real, 64)).float()
                loss = loss + arguments.adversarial * F.softplus(-discriminator(made).float()).mean()
            synthesis_optimizer.zero_grad()
            loss.backward()
            synthesis_optimizer.step()
            average.update(generator, job.step)
        others = np.random.default_rng(job.step).integers(len(data), size=arguments.batch)
        with torch.autocast("cpu", torch.bfloat16):
            on_real = discriminator(to_tensor(data.images[np.sort(others)])).float()
            on_made = discriminator(made.detach()).float()
        loss = F.softplus(-on_real).mean() + F.softplus(on_made).mean()
        measures |= {"real": on_real.mean().item(), "made": on_made.mean().item()}
        if job.step % R1_EVERY == 0:
            loss = loss + r1_penalty(discriminator, real)
        discriminator_optimizer.zero_grad()
        loss.backward()
        discriminator_optimizer.step()
        average_discriminator.update(discriminator, job.step)
        job.finish_step(**measures)
        if job.step % 500 == 0:
            save_sheet(job.folder / "latest.png", torch.cat([real[:8], made[:8].detach()]))
    job.save()


if __name__ == "__main__":
    main()

"""Stage 4 of the avatars: a discriminator of drawings and of what the generator draws from all of W.

    python -m training.avatars.adversarial --steps 4000

Non-saturating logistic loss with lazy R1 (Karras et al. 2020). It judges drafts, which a flow looks at; of larger
pictures it is shown the means of their pixels. The generator stays as it is: the drawing loss has made it, and what
the discriminator still finds is what a flow can be told to keep away from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.networks.stylegan2 import Discriminator
from training.avatars import larger
from training.avatars.stream import statistics, stream
from training.jobs import Average, Job, pick_device, save_sheet
from training.objectives import NON_SATURATING, r1_penalty

FOLDER = Path("training/runs/avatars/adversarial")
SIDE = larger.DRAFTS[0]
CHANNELS = {4: 128, 8: 128, 16: 96, 32: 64, 64: 32}
R1_EVERY, R1_GAMMA = 16, 2.0


def build_discriminator() -> Discriminator:
    """No minibatch statistics: a particle's realism must not depend on the others."""
    return Discriminator(0, SIDE, channels=CHANNELS, mbstd_channels=0)


def train_critic(
    critic: Discriminator, optimizer: torch.optim.Optimizer, real: Tensor, made: Tensor, step: int
) -> dict[str, Tensor]:
    """One step of the discriminator on drawings and pictures [N, 3, H, W]; its mean logits."""
    with torch.autocast(real.device.type, torch.bfloat16):
        on_real, on_made = critic(real).float(), critic(made).float()
    loss = NON_SATURATING.discriminator(on_real, on_made)
    if step % R1_EVERY == 0:  # and as much harder
        loss = loss + r1_penalty(critic, real, R1_EVERY * R1_GAMMA)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return {"real": on_real.detach().mean(), "made": on_made.detach().mean()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw ahead")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    torch.manual_seed(7)
    device = pick_device(arguments.device)
    generator, critic = larger.load_average()[0].to(device), build_discriminator().to(device)
    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.0, 0.99))
    average, job = Average(critic, 0.998), Job(FOLDER)
    job.resume(critic=critic, optimizer=optimizer, average=average)
    mean, unit = (torch.from_numpy(part.astype(np.float32)).to(device) for part in statistics())
    drawings = stream(2 * arguments.batch, 2 * SIDE, 71, job.step, workers=arguments.workers, device=device)
    for given, images in drawings:
        if job.step >= arguments.steps:
            break
        # Other drawings than those that the pictures are of: what is told apart is how, not what, they show.
        real = F.avg_pool2d(images[: arguments.batch], 2)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            made = larger.synthesize(generator, (given[arguments.batch :] - mean) / unit, SIDE)[SIDE].float()
        measures = train_critic(critic, optimizer, real, made, job.step)
        average.update(critic, job.step)
        job.finish_step(**measures)
        if job.step % 500 == 0:
            save_sheet(job.folder / "latest.png", torch.cat([real[:8], made[:8]]))
    job.save()


if __name__ == "__main__":
    main()

"""A small Co-Mod-GAN at 64 px for the pictures of mosaic: by differences at first, then by its discriminator.

    python -m training.fill.adversarial --minutes 90
    python -m training.fill.adversarial --minutes 9 --batch 128 --export out/fill     # on a GPU

Zhao et al. 2021: non-saturating logistic loss, lazy R1, a discriminator that also sees where the hole is, free-form
holes of 0 to 100 %. On a processor that is slow to begin with, and what belongs into a hole is known here: the
generator first learns the mean of it by differences, which weigh less and less once the discriminator is listened to.
Each hole is filled twice: then the better filling alone is compared with the picture, and both are to differ (as Mao et
al. 2019, Mode Seeking GANs), or z would soon mean nothing. No dropout of the code and no path-length penalty: a
particle's picture is a smooth function of its z alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from engine.networks.comodgan import Generator, paste
from engine.networks.stylegan2 import Discriminator
from training.avatars import synthesis
from training.fill.holes import known_pixels
from training.jobs import Average, Job, Pace, pick_device, read_networks, save_sheet, write_networks
from training.mosaic import dvae, pool
from training.objectives import NON_SATURATING, r1_penalty

FOLDER = Path("training/runs/fill")
SIZE, Z_DIM, CODE_DIM = pool.SIZE, 64, 128
CHANNELS = {4: 72, 8: 72, 16: 64, 32: 32, 64: 16}
CRITIC_CHANNELS = {4: 96, 8: 96, 16: 64, 32: 32, 64: 16}
SHARES = {"avatars": 0.3, "styles": 0.3, "emoji": 0.22, "icons": 0.18}
R1_EVERY, R1_GAMMA = 16, 1.0
CRITIC_FROM, SHARPEN_FROM = 0.3, 0.4  # share of the training from which it learns, and is listened to
DIFFERENCES_LEFT = 0.1  # of their weight, at the end
VARIETY, VARIETY_WANTED = 0.1, 0.3  # weight, and mean difference of a hole's two fillings, of a hole of everything
ROLES = ("generator", "discriminator")


class Networks(nn.Module):
    """Both networks with untrained weights."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = Generator((Z_DIM, Z_DIM, Z_DIM, Z_DIM, Z_DIM), CHANNELS, code_dim=CODE_DIM)
        # No minibatch statistics: a particle's realism must not depend on the others.
        self.discriminator = Discriminator(0, SIZE, 4, channels=CRITIC_CHANNELS, mbstd_channels=0)


def _fast(device: torch.device) -> torch.autocast:
    """bfloat16 on a GPU; on a processor, networks as small as these gain nothing by it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def judged(critic: Discriminator, images: Tensor, known: Tensor) -> Tensor:
    """Logits [N, 1] of pictures [N, 3, H, W] whose pixels are known [N, 1, H, W] or made."""
    logits: Tensor = critic(torch.cat([known - 0.5, images], dim=1))
    return logits


def train_critic(
    critic: Discriminator, optimizer: torch.optim.Optimizer, real: Tensor, made: Tensor, known: Tensor, step: int
) -> dict[str, Tensor]:
    """One step of the discriminator on pictures and fillings [N, 3, H, W] of the same holes; its mean logits."""
    with _fast(real.device):
        on_real, on_made = judged(critic, real, known).float(), judged(critic, made, known).float()
    loss = NON_SATURATING.discriminator(on_real, on_made)
    if step % R1_EVERY == 0:  # and as much harder
        loss = loss + r1_penalty(lambda images: judged(critic, images, known), real, R1_EVERY * R1_GAMMA)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return {"real": on_real.detach().mean(), "made": on_made.detach().mean()}


def hole_loss(made: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """How far each filling is from its picture, mostly in the hole: [N]; a small hole counts as much as a tenth."""
    hole = 1 - known
    weight = hole / hole.mean(dim=(2, 3), keepdim=True).clamp(min=0.1) + 0.1
    parts = zip(made.split(1), wanted.split(1), weight.split(1), strict=True)
    return torch.stack([synthesis.drawing_loss(*part) for part in parts])


def lack_of_variety(made: Tensor, known: Tensor) -> Tensor:
    """How much the two fillings of each hole, [2 N, 3, H, W] one after the other, differ too little: []."""
    first, second = made.unflatten(0, (-1, 2)).unbind(1)
    share = 1 - known[::2].mean(dim=(1, 2, 3))
    difference = (first - second).abs().mean(dim=(1, 2, 3))  # nothing where all is known
    return (VARIETY_WANTED * share - difference).clamp(min=0).mean()


def weight_of_differences(done: float) -> float:
    """1 while they are all there is, then down to what is left at the end."""
    late = min(1.0, max(0.0, (done - SHARPEN_FROM) / (1 - SHARPEN_FROM)))
    return 1 - (1 - DIFFERENCES_LEFT) * late**0.5


def batches(data: pool.Pool, batch: int, seed: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless pictures [B, 3, 64, 64] in [-1, 1] in colours drawn anew, and the known pixels [B, 1, 64, 64] of each."""
    parts = {source: data.rows(held_out=False, source=source) for source in data.sources if source in SHARES}
    shares = pool.shares_of(SHARES, parts)
    step = first
    while True:
        rng = np.random.default_rng((seed, step))
        chosen = rng.choice(list(shares), size=batch, p=list(shares.values()))
        rows = np.array([rng.choice(parts[source]) for source in chosen])
        yield dvae.load_batch(data, rows, rng), torch.from_numpy(known_pixels(rng, batch, SIZE))
        step += 1


def write_weights(folder: Path, average: Average) -> None:
    """The averages in half precision, one file a network."""
    write_networks(folder, average.state_dict(), ROLES)


def read_weights(folder: Path) -> Networks:
    """What `write_weights` has written."""
    return read_networks(folder, Networks(), ROLES)


@torch.no_grad()
def keep(job: Job, average: Average, wanted: Tensor, known: Tensor, export: Path | None) -> None:
    """A sheet beside the checkpoint: pictures, holes, and two fillings of each by the averages, which are exported."""
    networks = Networks()
    networks.load_state_dict(average.state_dict())
    wanted, known = wanted[:8].cpu(), known[:8].cpu()
    draw = torch.Generator().manual_seed(5)
    rows = [wanted, wanted * known]
    for _ in range(2):
        rows.append(networks.generator(wanted, known, torch.randn(len(wanted), Z_DIM, generator=draw)))
    save_sheet(job.folder / "latest.png", torch.cat(rows), columns=len(wanted))
    if export:
        write_weights(export, average)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30000)
    parser.add_argument("--minutes", type=float, help="end after these, the schedule with them")
    parser.add_argument("--batch", type=int, default=4, help="pictures, each filled twice (%(default)s)")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--adversarial", type=float, default=0.05, help="weight of the adversarial loss")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--begin", type=float, default=0.0, help="share of the schedule that is done already")
    parser.add_argument("--from", type=Path, dest="start", help="start from the weights in this folder")
    parser.add_argument("--export", type=Path, help="write the newest averages here as float16, now and then")
    arguments = parser.parse_args()
    torch.manual_seed(31)
    device = pick_device(arguments.device)
    networks = read_weights(arguments.start) if arguments.start else Networks()
    networks.to(device)
    generator, critic = networks.generator, networks.discriminator
    optimizer = torch.optim.Adam(generator.parameters(), lr=arguments.rate, betas=(0.5, 0.99))
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.0, 0.99))
    average = Average(networks, 0.998)
    job = Job(FOLDER, minutes=2.0)
    job.resume(networks=networks, optimizer=optimizer, critic_optimizer=critic_optimizer, average=average)
    pace, kept_at = Pace(arguments.steps, arguments.minutes), time.monotonic()
    for pictures, holes in batches(pool.open_pool(), arguments.batch, 31, job.step):
        done = arguments.begin + (1 - arguments.begin) * pace.set_rate(optimizer, job.step, arguments.rate)
        if done >= 1:
            break
        wanted, known = (part.to(device).repeat_interleave(2, dim=0) for part in (pictures, holes))
        z = torch.randn(len(wanted), Z_DIM, device=device)
        with _fast(device):
            filled = generator.fill(generator.encode(wanted, known), generator.map(z)).float()
        made = paste(wanted, known, filled)
        of_each = hole_loss(made, wanted, known)
        if done < SHARPEN_FROM:
            differences = of_each.mean()
            loss = differences
        else:
            differences = of_each.unflatten(0, (-1, 2)).amin(1).mean()
            with _fast(device):
                logits = judged(critic, made, known).float()
            loss = weight_of_differences(done) * differences + VARIETY * lack_of_variety(made, known)
            loss = loss + arguments.adversarial * NON_SATURATING.generator(logits)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(generator.parameters(), 2.0)
        optimizer.step()
        measures = {"loss": loss.detach(), "differences": differences.detach()}
        if done >= CRITIC_FROM:
            measures |= train_critic(critic, critic_optimizer, wanted, made.detach(), known, job.step)
        average.update(networks, job.step)
        job.finish_step(**measures)
        if time.monotonic() - kept_at > 100:
            kept_at = time.monotonic()
            keep(job, average, pictures, holes, arguments.export)
    job.save()
    keep(job, average, *next(batches(pool.open_pool(), 8, 32, 0)), arguments.export)


if __name__ == "__main__":
    main()

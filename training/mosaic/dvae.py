"""The encoder, codes and decoder of mosaic: a vector-quantised autoencoder, written as a dVAE.

    python -m training.mosaic.dvae --steps 4200

A Gumbel-softmax relaxation over 1,024 codes converges slowly on one core; quantising to the nearest code with a
straight-through gradient (van den Oord et al. 2017) and codes that follow the running mean of what they stand for
(their Appendix A.1) reaches the same function sooner. It is one: the nearest code to z is the one with the largest
logit 2 <e, z> - |e|^2, a 1 x 1 convolution of what z is a 1 x 1 convolution of. `export` folds them, and the files
are a dVAE under OpenAI's names. A 16 x 16 grid, so three groups instead of four.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.networks.dalle_dvae import Block, Decoder, Encoder, map_pixels
from training.jobs import Average, Job, save_sheet, set_schedule, to_tensor, trained
from training.mosaic import pool

FOLDER = Path("training/runs/mosaic/dvae")
VOCABULARY = 1024
FEATURES = 32  # of a code vector
HIDDEN = 32
GROUPS = 3
SHARES = {"avatars": 0.15, "styles": 0.25, "emoji": 0.27, "icons": 0.25, "fashion": 0.08}
CONTINUOUS_STEPS = 400  # before anything is quantised
REVIVE_EVERY = 50
BLENDED = 0.25  # of the pictures are decoded between their vectors and their codes


class Quantiser(nn.Module):
    """Codes [V, D] as running means of the vectors that are nearest to each."""

    codes: Tensor
    counts: Tensor

    def __init__(self, vocabulary: int, features: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("codes", torch.zeros(vocabulary, features))
        self.register_buffer("counts", torch.ones(vocabulary))

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """The code nearest to each vector, [M, D] -> [M]."""
        return torch.addmm(self.codes.square().sum(1), vectors, self.codes.t(), alpha=-2).argmin(1)

    @torch.no_grad()
    def start(self, vectors: Tensor, generator: torch.Generator, rounds: int = 10) -> None:
        """k-means over vectors [M, D]."""
        chosen = torch.randperm(len(vectors), generator=generator)[: len(self.codes)]
        self.codes.copy_(vectors[chosen])
        for _ in range(rounds):
            sums, counts = self._sums(vectors, self.nearest(vectors))
            known = counts > 0
            self.codes[known] = sums[known] / counts[known, None]
            self.counts.copy_(counts.clamp(min=1))
            self.revive(vectors, generator, least=0.5)

    @torch.no_grad()
    def follow(self, vectors: Tensor, indices: Tensor) -> None:
        """Move the codes towards the means of their vectors in this batch."""
        sums, counts = self._sums(vectors, indices)
        total = self.codes * self.counts[:, None]
        self.counts.lerp_(counts, 1 - self.decay)
        total.lerp_(sums, 1 - self.decay)
        self.codes.copy_(total / self.counts.clamp(min=1e-3)[:, None])

    @torch.no_grad()
    def revive(self, vectors: Tensor, generator: torch.Generator, least: float) -> int:
        """Put codes that stand for less than `least` vectors a step where vectors are; how many they were."""
        dead = self.counts < least
        count = int(dead.sum())
        self.codes[dead] = vectors[torch.randint(len(vectors), (count,), generator=generator)]
        self.counts[dead] = max(1.0, 2 * least)
        return count

    def _sums(self, vectors: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        sums = torch.zeros_like(self.codes).index_add_(0, indices, vectors)
        return sums, torch.bincount(indices, minlength=len(self.codes)).to(sums.dtype)


class Autoencoder(nn.Module):
    """Images [N, 3, H, W] in [-1, 1] -> vectors -> codes -> images."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(HIDDEN, FEATURES, groups=GROUPS)
        self.decoder = Decoder(HIDDEN, VOCABULARY, n_init=FEATURES, groups=GROUPS)
        self.quantiser = Quantiser(VOCABULARY, FEATURES)
        for block in self.modules():
            if isinstance(block, Block):
                # The release's residual paths start at 1 / 36 of their inputs and need long to grow.
                with torch.no_grad():
                    block.res_path["conv_4"].w.mul_(0.3 / block.post_gain)  # type: ignore[operator]

    def vectors(self, images: Tensor) -> Tensor:
        """[N, D, h, w]."""
        with _fast(self.training):
            z: Tensor = self.encoder(map_pixels((images + 1) / 2))
        return z.float()

    def decode(self, vectors: Tensor) -> Tensor:
        """Vectors [N, D, h, w] -> images, nominally in [-1, 1]."""
        with _fast(self.training):
            statistics = self.decoder.from_vectors(vectors)
        return self.decoder.images(statistics.float())

    def quantise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Codes in place of vectors [N, D, h, w], and which they are [N h w]."""
        flat = z.permute(0, 2, 3, 1).flatten(0, 2).float()
        indices = self.quantiser.nearest(flat)
        codes = self.quantiser.codes[indices].view(z.shape[0], *z.shape[2:], -1).permute(0, 3, 1, 2)
        return codes, indices

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        codes, indices = self.quantise(self.vectors(images))
        return self.decode(codes), indices


def _fast(training: bool) -> torch.autocast:
    """bfloat16 doubles the speed of training; judged is in float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=training)


def parameter_groups(network: Autoencoder) -> list[dict[str, object]]:
    """What a block multiplies by its post_gain learns that much faster."""
    gained = {
        id(parameter)
        for block in network.modules()
        if isinstance(block, Block)
        for parameter in block.res_path["conv_4"].parameters()
    }
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if id(p) not in gained], "lr_scale": 1.0},
        {"params": [p for p in parameters if id(p) in gained], "lr_scale": 8.0},
    ]


def sample_rows(parts: dict[str, np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """Pictures of the sources that there are, by their shares."""
    shares = pool.shares_of(SHARES, parts)
    sources = rng.choice(list(shares), size=count, p=list(shares.values()))
    return np.array([rng.choice(parts[source]) for source in sources])


def load_batch(data: pool.Pool, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Those pictures in colours drawn anew: [N, 3, 64, 64] in [-1, 1]."""
    return to_tensor(data.show(rows, [data.look(row, rng) for row in rows], rng))


def reconstruction_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Squares for PSNR, distances for clean edges."""
    difference = found - wanted
    return difference.square().mean() + 0.1 * difference.abs().mean()


def held_out(data: pool.Pool, source: str, count: int) -> Tensor:
    """The same held-out pictures of a source each time."""
    rng = np.random.default_rng(2_000_003)
    rows = data.rows(held_out=True, source=source)
    return load_batch(data, rng.permutation(rows)[:count], rng)


def psnr(found: Tensor, wanted: Tensor) -> Tensor:
    """Of each picture, in dB; pictures in [-1, 1], clamped as they are saved."""
    error = (found.clamp(-1, 1) - wanted).square().mean(dim=(1, 2, 3)) / 4
    return -10 * error.clamp(min=1e-6).log10()


@torch.no_grad()
def report(network: Autoencoder, data: pool.Pool, job: Job) -> None:
    """Log PSNR of each source and the codes used; draw originals above their reconstructions."""
    sheet, used, line = [], set(), []
    for source in data.sources:
        wanted = held_out(data, source, 200)
        found, indices = network.reconstruct(wanted)
        used.update(indices.tolist())
        line.append(f"{source} {psnr(found, wanted).mean():.2f}")
        sheet += [wanted[:12], found[:12]]
    job.log(f"step {job.step}  PSNR  {'  '.join(line)}  codes used {len(used)}")
    save_sheet(job.folder / "latest.png", torch.cat(sheet), columns=12)


def train(steps: int, batch: int, continuous: int = CONTINUOUS_STEPS) -> None:
    data = pool.open_pool()
    parts = {source: data.rows(held_out=False, source=source) for source in data.sources}
    torch.manual_seed(81)
    network = Autoencoder().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(parameter_groups(network), lr=1e-3, betas=(0.9, 0.98), weight_decay=1e-4)
    average, job = Average(network, 0.998), Job(FOLDER)
    job.resume(network=network, optimizer=optimizer, average=average)
    while job.step < steps:
        set_schedule(optimizer, job.step, steps, 2e-3)
        rng = np.random.default_rng((82, job.step))
        images = load_batch(data, sample_rows(parts, batch, rng), rng)
        step(network, optimizer, average, job, images, continuous)
        if job.step % 1000 == 0:
            averaged = Autoencoder()
            averaged.load_state_dict(average.shadow)
            report(averaged.eval(), data, job)
    job.save()


def step(
    network: Autoencoder,
    optimizer: torch.optim.Optimizer,
    average: Average,
    job: Job,
    images: Tensor,
    continuous: int = CONTINUOUS_STEPS,
) -> None:
    """One step: the autoencoder by gradient, the codes, after `continuous` steps without, by their running means."""
    generator = torch.Generator().manual_seed(83_000_000 + job.step)
    z = network.vectors(images)
    flat = z.detach().permute(0, 2, 3, 1).flatten(0, 2)
    commitment = z.new_zeros(())
    if job.step >= continuous:
        if job.step == continuous:
            network.quantiser.start(flat, generator)
        codes, indices = network.quantise(z)
        network.quantiser.follow(flat, indices)
        if job.step % REVIVE_EVERY == 0:
            network.quantiser.revive(flat, generator, least=0.03 * len(flat) / VOCABULARY)
        commitment = F.mse_loss(z, codes) * FEATURES
        share = torch.rand(len(z), 1, 1, 1, generator=generator)
        share = torch.where(torch.rand(len(z), 1, 1, 1, generator=generator) < BLENDED, share, 1.0)
        z = z + share * (codes - z).detach()
    loss = reconstruction_loss(network.decode(z), images)
    optimizer.zero_grad()
    (loss + 0.02 * commitment).backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    average.update(network, job.step)
    job.finish_step(loss=loss.item(), commitment=commitment.item())


def load_average(folder: Path = FOLDER) -> Autoencoder:
    """The averaged network of the last checkpoint. FileNotFoundError says how to make one."""
    network = Autoencoder()
    network.load_state_dict(trained(folder / "state.pt", "training.mosaic.dvae")["parts"]["average"])
    return network.eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4200)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--continuous", type=int, default=CONTINUOUS_STEPS, help="steps before anything is quantised")
    arguments = parser.parse_args()
    train(arguments.steps, arguments.batch, arguments.continuous)


if __name__ == "__main__":
    main()

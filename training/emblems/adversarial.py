"""A small DF-GAN at 64 px that draws emoji, icons and avatars by name: by differences at first, then by its critics.

    python -m training.emblems.adversarial --minutes 70
    python -m training.emblems.adversarial --minutes 9 --batch 128 --export out/emblems    # on a GPU

Tao et al. 2022: hinge loss of a discriminator that also tells whether a picture fits its sentence, with the
matching-aware gradient penalty, here on every fourth step. A caption and a z have one picture
(`training.emblems.examples`), so the generator first learns that, at half the size to begin with, and the critics only
sharpen it. While it learns, sentence vectors are centred and partly whitened; the files that are written take them as
they are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.latents.sentences import AUTHORS_PSI
from engine.networks.dfgan import SLOPE, Affine, ConditionalHead, Discriminator, Generator
from training.avatars import synthesis
from training.emblems import examples
from training.jobs import Average, Job, Pace, pick_device, read_networks, save_sheet, write_networks
from training.objectives import matching_penalty
from training.objects.synthesis import load_tower

FOLDER = Path("training/runs/emblems/adversarial")
WIDTHS = (192, 192, 160, 64, 32)  # at 4 to 64 px
CRITIC_WIDTHS, HIDDEN = (16, 48, 96, 160, 192), 64  # at 64 to 4 px
SENTENCE_DIM = 256
AVATARS = 0.2  # share of the pictures
PENALTY_EVERY = 4
WHOLE_FROM = 0.45  # share of the training from which pictures have their whole size
CRITIC_FROM, SHARPEN_FROM = 0.62, 0.68  # and from which the critics learn, and are listened to
DIFFERENCES_LEFT = 0.3  # of their weight, at the end
ROLES = ("generator", "discriminator", "conditional_discriminator")


class Networks(nn.Module):
    """All three networks with untrained weights, and what shows the generator's pictures before its last block."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = Generator(examples.Z_DIM, SENTENCE_DIM, WIDTHS)
        self.half_size = nn.Sequential(nn.LeakyReLU(SLOPE), nn.Conv2d(WIDTHS[-2], 3, 3, padding=1), nn.Tanh())
        self.discriminator = Discriminator(CRITIC_WIDTHS)
        self.conditional_discriminator = ConditionalHead(CRITIC_WIDTHS[-1] + SENTENCE_DIM, HIDDEN)
        # z is noise that has little to say; what is drawn grows from a pattern of channels that sentences choose among.
        nn.init.normal_(self.generator.fc.bias)
        with torch.no_grad():
            self.generator.fc.weight.mul_(0.1)
        for module in self.modules():
            if isinstance(module, Affine):  # at first nearly y = x
                for layers, level in ((module.fc_gamma, 1.0), (module.fc_beta, 0.0)):
                    nn.init.normal_(layers.get_parameter("linear2.weight"), std=0.02)
                    nn.init.constant_(layers.get_parameter("linear2.bias"), level)

    def drawn(self, z: Tensor, sentences: Tensor, *, whole: bool) -> Tensor:
        """Pictures [N, 3, 64, 64] of z [N, Z_DIM], normal, and sentences [N, SENTENCE_DIM]; else of half that size."""
        if whole:
            images: Tensor = self.generator(AUTHORS_PSI * z, sentences)
        else:
            images = self.half_size(self.generator.features(AUTHORS_PSI * z, sentences, blocks=len(WIDTHS) - 2))
        return images

    def judged(self, images: Tensor, sentences: Tensor) -> Tensor:
        """Logits [N, 1] of pictures [N, 3, 64, 64] with the sentences that they should fit [N, SENTENCE_DIM]."""
        logits: Tensor = self.conditional_discriminator(self.discriminator(images), sentences)
        return logits


# ---- sentence vectors ------------------------------------------------------------------------------------


class Whitening:
    """Text features f -> (f - mean) M for the generator, whose numbers have a mean of 0 and about unit variance.

    For critics, whose layers have no bias that could make up for the mean: f M.
    """

    def __init__(self, features: Tensor) -> None:
        """features: [T, D]. The square root: directions in which captions differ much stay the larger ones."""
        self.mean = features.mean(0)
        variances, directions = torch.linalg.eigh(torch.cov(features.double().T))
        deviations = variances.clamp_min(1e-8).sqrt()
        matrix = directions * deviations.clamp_min(0.02 * deviations.max()) ** -0.5
        size = (((features.double() - self.mean) @ matrix).square().mean()).sqrt()
        self.matrix = (matrix / size).float()

    def centred(self, features: Tensor) -> Tensor:
        return (features - self.mean) @ self.matrix

    def uncentred(self, features: Tensor) -> Tensor:
        return features @ self.matrix

    def folded(self, role: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a role's network for sentence vectors as they are."""
        return _folded(role, state, self.mean, self.matrix)

    def unfolded(self, role: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The opposite of `folded`."""
        back = torch.linalg.inv(self.matrix.double())
        return _folded(role, state, -self.mean.double() @ self.matrix.double(), back)


def _folded(role: str, state: Mapping[str, Tensor], mean: Tensor, matrix: Tensor) -> dict[str, Tensor]:
    """The weights of a network that is given f, of one that is given (f - mean) matrix, critics f matrix."""
    mean, matrix, result = mean.double(), matrix.double(), dict(state)
    for name, value in state.items():
        if role == "generator" and name.endswith("linear1.weight"):
            z, sentence = value.double().split([examples.Z_DIM, SENTENCE_DIM], dim=1)
            sentence = sentence @ matrix.T
            bias = name.replace("weight", "bias")
            result[name] = torch.cat([z, sentence], dim=1).float()
            result[bias] = (state[bias].double() - sentence @ mean).float()
        if name == "joint_conv.0.weight":
            features, sentence = value.double().split([CRITIC_WIDTHS[-1], SENTENCE_DIM], dim=1)
            result[name] = torch.cat([features, torch.einsum("hckl,dc->hdkl", sentence, matrix)], dim=1).float()
    return result


# ---- training --------------------------------------------------------------------------------------------


def _fast(device: torch.device) -> torch.autocast:
    """bfloat16: on processors that know it, too, it halves the time."""
    return torch.autocast(device.type, torch.bfloat16)


def picture_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """How far pictures are from the ones wanted, edges counting most."""
    across, down = synthesis.image_gradients(wanted.mean(1, keepdim=True))
    edges = F.pad(across.abs(), (0, 1)) + F.pad(down.abs(), (0, 0, 0, 1))
    weight = 1 + 2 * F.max_pool2d((2 * edges).clamp(max=1), 5, stride=1, padding=2)
    return synthesis.drawing_loss(made, wanted, weight / weight.mean())


def train_critics(
    networks: Networks, optimizer: torch.optim.Optimizer, real: Tensor, made: Tensor, sentences: Tensor, step: int
) -> dict[str, Tensor]:
    """One step on pictures, real ones and made ones, of the same sentences; the mean logits.

    Real pictures with the sentence of the picture before count as made ones do, both half.
    """
    with _fast(real.device):
        features = networks.discriminator(torch.cat([real, made]))
        on_real, on_made = networks.conditional_discriminator(features, sentences.repeat(2, 1)).float().chunk(2)
        on_others = networks.conditional_discriminator(features[: len(real)], sentences.roll(1, 0)).float()
    loss = F.relu(1 - on_real).mean() + (F.relu(1 + on_made).mean() + F.relu(1 + on_others).mean()) / 2
    if step % PENALTY_EVERY == 0:  # and as much harder
        with _fast(real.device):
            loss = loss + PENALTY_EVERY * matching_penalty(networks.judged, real, sentences)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return {"real": on_real.detach().mean(), "made": on_made.detach().mean(), "others": on_others.detach().mean()}


def weight_of_differences(done: float) -> float:
    """1 while they are all there is, then down to what is left at the end."""
    late = min(1.0, max(0.0, (done - SHARPEN_FROM) / (1 - SHARPEN_FROM)))
    return 1 - (1 - DIFFERENCES_LEFT) * late


def batches(data: examples.Examples, batch: int, seed: int, first: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless rows of captions [B], z [B, Z_DIM], and pictures [B, 3, 64, 64]."""
    step = first
    while True:
        rng = np.random.default_rng((seed, step))
        of_avatars = rng.random(batch) < (AVATARS if data.of_glyphs else 1)
        rows = np.where(
            of_avatars, rng.integers(data.of_glyphs, len(data), batch), rng.integers(max(1, data.of_glyphs), size=batch)
        )
        chosen = torch.from_numpy(rows)
        yield chosen, *examples.pictures_of(data, chosen, torch.Generator().manual_seed(int(rng.integers(2**31))))
        step += 1


def write_weights(folder: Path, state: Mapping[str, Tensor], whitening: Whitening) -> None:
    """The networks of a `Networks` state in half precision, one file each, for sentence vectors as they are."""
    write_networks(folder, state, ROLES, whitening.folded)


def read_weights(folder: Path, whitening: Whitening) -> Networks:
    """What `write_weights` has written, for whitened sentence vectors."""
    return read_networks(folder, Networks(), ROLES, whitening.unfolded)


@torch.no_grad()
def keep(
    job: Job, average: Average, data: examples.Examples, whitening: Whitening, export: Path | None, *, whole: bool
) -> None:
    """A sheet beside the checkpoint, and the averages, exported.

    For each of 12 captions its picture for a z, the averages' for that z, and theirs for four others.
    """
    networks = Networks()
    networks.load_state_dict(average.state_dict())
    draw = torch.Generator().manual_seed(5)
    rows = torch.randint(data.of_glyphs + 2, (12,), generator=draw)
    rows[:2] = data.of_glyphs + torch.arange(2)
    z, wanted = examples.pictures_of(data, rows, draw)
    sentences = whitening.centred(data.features[rows])
    others = [examples.draw_z(len(rows), draw) for _ in range(4)]
    made = [networks.drawn(one, sentences, whole=whole) for one in (z, *others)]
    sheet = torch.cat([wanted, *(F.interpolate(images, wanted.shape[2:]) for images in made)])
    save_sheet(job.folder / "latest.png", sheet, columns=len(rows))
    if export:
        write_weights(export, average.state_dict(), whitening)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--minutes", type=float, help="end after these, the schedule with them")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--adversarial", type=float, default=0.05, help="weight of the adversarial loss")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--from", type=Path, dest="start", help="start from the weights in this folder")
    parser.add_argument("--export", type=Path, help="write the newest averages here as float16, now and then")
    arguments = parser.parse_args()
    torch.manual_seed(82)
    device = pick_device(arguments.device)
    data = examples.read()
    whitening = Whitening(data.features)
    networks = read_weights(arguments.start, whitening) if arguments.start else Networks()
    networks.to(memory_format=torch.channels_last).to(device)
    tower = load_tower().to(device)
    critics = [*networks.discriminator.parameters(), *networks.conditional_discriminator.parameters()]
    drawing = [*networks.generator.parameters(), *networks.half_size.parameters()]
    optimizer = torch.optim.Adam(drawing, lr=arguments.rate, betas=(0.9, 0.99))
    critic_optimizer = torch.optim.Adam(critics, lr=1e-3, betas=(0.0, 0.99))
    average = Average(networks, 0.998)
    job = Job(FOLDER, minutes=2.0)
    job.resume(networks=networks, optimizer=optimizer, critic_optimizer=critic_optimizer, average=average)
    pace, kept_at = Pace(arguments.steps, arguments.minutes), time.monotonic()
    for rows, z, pictures in batches(data, arguments.batch, 82, job.step):
        done = pace.set_rate(optimizer, job.step, arguments.rate)
        if done >= 1:
            break
        whole = arguments.start is not None or done >= WHOLE_FROM
        wanted = (pictures if whole else F.avg_pool2d(pictures, 2)).to(device)
        sentences = whitening.centred(data.features[rows]).to(device)
        of_critics = whitening.uncentred(data.features[rows]).to(device)
        with _fast(device):
            made = networks.drawn(z.to(device), sentences, whole=whole).float()
        differences = picture_loss(made, wanted)
        if whole and job.step % 2 == 0:
            with _fast(device):
                differences = differences + 0.2 * synthesis.feature_loss(tower, made, wanted).float()
        loss = weight_of_differences(done) * differences
        if done >= SHARPEN_FROM:
            with _fast(device):
                loss = loss - arguments.adversarial * networks.judged(made, of_critics).float().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(drawing, 2.0)
        optimizer.step()
        measures = {"loss": loss.detach(), "l1": (made.detach() - wanted).abs().mean()}
        if done >= CRITIC_FROM:
            measures |= train_critics(networks, critic_optimizer, wanted, made.detach(), of_critics, job.step)
        average.update(networks, job.step)
        job.finish_step(**measures)
        if time.monotonic() - kept_at > 100:
            kept_at = time.monotonic()
            keep(job, average, data, whitening, arguments.export, whole=whole)
    job.save()
    keep(job, average, data, whitening, arguments.export, whole=True)


if __name__ == "__main__":
    main()

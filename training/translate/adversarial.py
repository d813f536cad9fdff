"""A small StarGAN v2 for avatars at 128 px: supervised on exact triples, sharpened by its discriminator.

    python -m training.translate.adversarial --steps 20000
    python -m training.translate.adversarial --minutes 9 --batch 48 --workers 4 --export out/translate   # on a GPU

Choi et al. 2020, but every result is known: a triple (`triples.py`) says what a face with the reference's hair looks
like, which latent says the same, and which traits both say. A style is a code of those traits (`triples.StyleCode`),
which the mapping network and the style encoder learn by regression, each for itself; the generator learns by
differences, at first with the exact codes, then with theirs; a style read from the result must be the style given.

The discriminator (non-saturating logistic loss, lazy R1) also learns that a real picture of another domain is wrong
for this one: its logit tells domain and realism, which is what the flow asks of it.

The generator has no size of its own but that of its pictures. It learns at half of it first, where a step costs a
quarter; the encoder and the discriminator, whose last kernels fix their size, see those pictures enlarged.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.networks.stargan2 import Discriminator, Generator, MappingNetwork, StyleEncoder
from training.avatars import synthesis
from training.avatars.larger import focus, load_features
from training.jobs import Average, Job, Pace, pick_device, read_networks, save_sheet, shrink, write_networks
from training.objectives import NON_SATURATING, r1_penalty
from training.translate import triples

FOLDER = Path("training/runs/translate")
SIZE, STYLE_DIM, HIDDEN = 128, 64, 256
WIDTHS = (16, 32, 64, 128)
ENCODER_WIDTHS = (24, 48, 96, 128, 192, 192)
CRITIC_WIDTHS = (16, 32, 64, 96, 128, 128)
DOMAINS = len(triples.DOMAINS)
R1_EVERY, R1_GAMMA = 16, 1.0
EXACT_UNTIL = 0.35  # share of the training with exact codes
HALF_UNTIL = 0.45  # and at half the size
CRITIC_FROM, SHARPEN_FROM = 0.45, 0.6  # and from which the discriminator learns, and is listened to
LATENTS = 256  # a step, from which the mapping network learns without pictures
ROLES = ("generator", "mapping_network", "style_encoder", "discriminator")


class Networks(nn.Module):
    """The four networks with untrained weights."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = Generator(WIDTHS, STYLE_DIM)
        self.mapping_network = MappingNetwork(triples.LATENT_DIM, STYLE_DIM, DOMAINS, hidden=HIDDEN)
        self.style_encoder = StyleEncoder(ENCODER_WIDTHS, STYLE_DIM, DOMAINS)
        self.discriminator = Discriminator(CRITIC_WIDTHS, DOMAINS)


def _of_domain(heads: nn.ModuleList, shared: Tensor, domains: Tensor) -> Tensor:
    """Each sample's own head, without asking the device what the domains are."""
    every = torch.stack([head(shared) for head in heads], dim=1)
    return every[torch.arange(len(shared), device=shared.device), domains]


def mapped_style(mapping: MappingNetwork, z: Tensor, domains: Tensor) -> Tensor:
    return _of_domain(mapping.unshared, mapping.shared(z), domains)


def style_of(encoder: StyleEncoder, images: Tensor, domains: Tensor) -> Tensor:
    return _of_domain(encoder.unshared, encoder.shared(_laid_out(images)).flatten(1), domains)


def all_logits(critic: Discriminator, images: Tensor) -> Tensor:
    """Images [N, 3, H, W] -> logits [N, K]."""
    logits: Tensor = critic.main(_laid_out(images)).flatten(1)
    return logits


def logit_of(critic: Discriminator, images: Tensor, domains: Tensor) -> Tensor:
    return all_logits(critic, images).gather(1, domains[:, None])[:, 0]


def enlarged(images: Tensor) -> Tensor:
    """At SIZE, as the networks see them whose last kernel fixes it."""
    if images.shape[-1] == SIZE:
        return images
    return F.interpolate(images, size=(SIZE, SIZE), mode="bilinear", align_corners=False)


def _laid_out(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def train_critic(
    critic: Discriminator, optimizer: torch.optim.Optimizer, real: Tensor, made: Tensor, domains: Tensor, step: int
) -> dict[str, Tensor]:
    """One step of the discriminator on drawings and results [N, 3, H, W] of these domains; its mean logits."""
    with torch.autocast(real.device.type, torch.bfloat16):
        on_real, on_made = all_logits(critic, real).float(), logit_of(critic, made, domains).float()
    own = F.one_hot(domains, DOMAINS).bool()
    loss = F.softplus(torch.where(own, -on_real, on_real)).mean() * DOMAINS / 2 + F.softplus(on_made).mean()
    if step % R1_EVERY == 0:  # and as much harder
        loss = loss + r1_penalty(lambda images: logit_of(critic, images, domains), real, R1_EVERY * R1_GAMMA)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    on_own = on_real.detach().gather(1, domains[:, None]).mean()
    return {"real": on_own, "made": on_made.detach().mean()}


def show(job: Job, *rows: Tensor) -> None:
    """Eight of each as a sheet beside the checkpoint: faces, references, what is wanted, what is made."""
    save_sheet(job.folder / "latest.png", torch.cat([enlarged(row[:8].detach()) for row in rows]), columns=8)


def write_weights(folder: Path, average: Average) -> None:
    """The averages in half precision, one file a network."""
    write_networks(folder, average.state_dict(), ROLES)


def read_weights(folder: Path) -> Networks:
    """What `write_weights` has written."""
    return read_networks(folder, Networks(), ROLES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--minutes", type=float, help="end after these, the schedule with them")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--adversarial", type=float, default=0.03, help="weight of the adversarial loss")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw ahead")
    parser.add_argument("--uses", type=int, default=3, help="how often a drawn batch is learnt from")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--from", type=Path, dest="start", help="start from the weights in this folder")
    parser.add_argument("--export", type=Path, help="write the newest averages here as float16, now and then")
    arguments = parser.parse_args()
    torch.manual_seed(21)
    device = pick_device(arguments.device)
    networks = read_weights(arguments.start) if arguments.start else Networks()
    networks.to(device).to(memory_format=torch.channels_last)
    generator, mapping = networks.generator, networks.mapping_network
    encoder, critic = networks.style_encoder, networks.discriminator
    makers = [*generator.parameters(), *mapping.parameters(), *encoder.parameters()]
    optimizer = torch.optim.Adam(makers, lr=arguments.rate, betas=(0.5, 0.99))
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.0, 0.99))
    average = Average(networks, 0.998)
    job = Job(FOLDER, minutes=2.0)
    job.resume(networks=networks, optimizer=optimizer, critic_optimizer=critic_optimizer, average=average)
    tower, code = load_features().to(device), triples.StyleCode(STYLE_DIM)
    draws = np.random.default_rng((22, job.step))
    pace, written_at = Pace(arguments.steps, arguments.minutes), time.monotonic()
    drawings = triples.stream(
        arguments.batch, SIZE, 21, job.step, workers=arguments.workers, device=device, uses=arguments.uses
    )
    for (faces, references, wanted), latents, domains, told in drawings:
        done = pace.set_rate(optimizer, job.step, arguments.rate)
        if done >= 1:
            break
        if arguments.start:  # weights that were trained go on at the full size
            done = HALF_UNTIL + (1 - HALF_UNTIL) * done
        codes = code(told)
        seen, asked, style = references, domains[1], codes[1]
        with torch.autocast(device.type, torch.bfloat16):
            read = style_of(encoder, torch.cat([faces, references]), domains.flatten()).float()
            said = mapped_style(mapping, latents.flatten(0, 1), domains.flatten()).float()
            more = [torch.from_numpy(part).to(device) for part in triples.sayings(draws, LATENTS)]
            mapped = mapped_style(mapping, more[0], more[1]).float()
        reading = (read - codes.flatten(0, 1)).abs().mean() + (mapped - code(more[2])).abs().mean()
        if job.step % 3 == 2:  # the way back: the result's face with the first face's own hair is that face
            faces, wanted, seen, asked, style = wanted, faces, faces, domains[0], codes[0]
        if done >= EXACT_UNTIL:
            way = job.step % 3 == 2
            theirs = torch.stack([style, *(part.view_as(codes)[0 if way else 1] for part in (read, said))])
            style = theirs[torch.randint(3, (len(style),), device=device), torch.arange(len(style), device=device)]
        generator.img_size = SIZE // 2 if done < HALF_UNTIL else SIZE
        faces, wanted = shrink(faces, generator.img_size), shrink(wanted, generator.img_size)
        with torch.autocast(device.type, torch.bfloat16):
            made = generator(faces, style.detach()).float()
            again = style_of(encoder, enlarged(made), asked).float()
            features = synthesis.feature_loss(tower, shrink(made, 64), shrink(wanted, 64))
        weight = focus(wanted)
        loss = synthesis.drawing_loss(made, wanted, weight / weight.mean())
        loss = loss + 0.1 * features.float() + reading + 0.03 * (again - style.detach()).abs().mean()
        measures = {"loss": loss.detach(), "l1": (made.detach() - wanted).abs().mean(), "reading": reading.detach()}
        if done >= SHARPEN_FROM and arguments.adversarial:
            with torch.autocast(device.type, torch.bfloat16):
                on_made = logit_of(critic, made, asked).float()
            loss = loss + arguments.adversarial * NON_SATURATING.generator(on_made)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(makers, 2.0)
        optimizer.step()
        if done >= CRITIC_FROM:
            measures |= train_critic(critic, critic_optimizer, wanted, made.detach(), asked, job.step)
        average.update(networks, job.step)
        job.finish_step(**measures)
        if time.monotonic() - written_at > 100:
            written_at = time.monotonic()
            show(job, faces, seen, wanted, made)
            if arguments.export:
                write_weights(arguments.export, average)
    job.save()
    show(job, faces, seen, wanted, made)
    if arguments.export:
        write_weights(arguments.export, average)


if __name__ == "__main__":
    main()

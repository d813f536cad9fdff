"""A small StarGAN v2 for avatars at 128 px: supervised on exact triples, sharpened by its discriminator.

    python -m training.translate.adversarial --steps 20000
    python -m training.translate.adversarial --minutes 9 --batch 48 --workers 4 --export out/translate   # on a GPU

Choi et al. 2020, but every result is known: a triple (`triples.py`) says what a face with the reference's hair looks
like, and which latent says the same. So the generator learns by differences; the mapping network learns to say what
the style encoder says; a style read from the result must be the style given (style reconstruction).

The discriminator (non-saturating logistic loss, lazy R1) also learns that a real picture of another domain is wrong
for this one: its logit tells domain and realism, which is what the flow asks of it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.checkpoints import read_safetensors, write_safetensors
from engine.networks.stargan2 import Discriminator, Generator, MappingNetwork, StyleEncoder
from training.avatars import synthesis
from training.avatars.larger import focus, load_features
from training.jobs import Average, Job, Pace, pick_device, save_sheet, shrink
from training.translate import triples

FOLDER = Path("training/runs/translate")
SIZE, STYLE_DIM, HIDDEN = 128, 64, 256
WIDTHS = (24, 48, 96, 160)
ENCODER_WIDTHS = (24, 48, 96, 128, 192, 192)
CRITIC_WIDTHS = (16, 32, 64, 96, 128, 128)
DOMAINS = len(triples.DOMAINS)
R1_EVERY, R1_GAMMA = 16, 1.0
CRITIC_FROM, SHARPEN_FROM = 0.1, 0.25  # share of the training from which the discriminator learns, and is listened to
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


def _laid_out(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def r1_penalty(critic: Discriminator, images: Tensor, domains: Tensor) -> Tensor:
    """gamma / 2 |grad D|^2 on real images (Mescheder et al. 2018, Eq. 9), scaled for being lazy."""
    images = images.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(logit_of(critic, images, domains).sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean() * (R1_GAMMA / 2 * R1_EVERY)


def train_critic(
    critic: Discriminator, optimizer: torch.optim.Optimizer, real: Tensor, made: Tensor, domains: Tensor, step: int
) -> dict[str, Tensor]:
    """One step of the discriminator on drawings and results [N, 3, H, W] of these domains; its mean logits."""
    with torch.autocast(real.device.type, torch.bfloat16):
        on_real, on_made = all_logits(critic, real).float(), logit_of(critic, made, domains).float()
    own = F.one_hot(domains, DOMAINS).bool()
    loss = F.softplus(torch.where(own, -on_real, on_real)).mean() * DOMAINS / 2 + F.softplus(on_made).mean()
    if step % R1_EVERY == 0:
        loss = loss + r1_penalty(critic, real, domains)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    on_own = on_real.detach().gather(1, domains[:, None]).mean()
    return {"real": on_own, "made": on_made.detach().mean()}


def write_weights(folder: Path, average: Average) -> None:
    """The averages in half precision, one file a network."""
    folder.mkdir(parents=True, exist_ok=True)
    for role in ROLES:
        state = {
            name.removeprefix(f"{role}."): value.cpu()
            for name, value in average.state_dict().items()
            if name.startswith(f"{role}.")
        }
        write_safetensors(folder / f"{role}.safetensors", state, dtype=torch.float16)


def read_weights(folder: Path) -> Networks:
    """What `write_weights` has written."""
    networks = Networks()
    for role in ROLES:
        networks.get_submodule(role).load_state_dict(read_safetensors(folder / f"{role}.safetensors"))
    return networks


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
    tower = load_features().to(device)
    pace, written_at = Pace(arguments.steps, arguments.minutes), time.monotonic()
    drawings = triples.stream(
        arguments.batch, SIZE, 21, job.step, workers=arguments.workers, device=device, uses=arguments.uses
    )
    for (faces, references, wanted), latents, domains in drawings:
        done = pace.set_rate(optimizer, job.step, arguments.rate)
        if done >= 1:
            break
        domain, z = domains[1], latents[1]
        if job.step % 3 == 2:  # the way back: the result's face with the first face's own hair is that face
            faces, references, wanted, domain, z = wanted, faces, faces, domains[0], latents[0]
        with torch.autocast(device.type, torch.bfloat16):
            read, said = style_of(encoder, references, domain).float(), mapped_style(mapping, z, domain).float()
            from_latent = torch.rand(len(z), 1, device=device) < 0.4
            style = torch.where(from_latent, said, read)
            made = generator(faces, style).float()
            again = style_of(encoder, made, domain).float()
        weight = focus(wanted)
        loss = synthesis.drawing_loss(made, wanted, weight / weight.mean())
        with torch.autocast(device.type, torch.bfloat16):
            features = synthesis.feature_loss(tower, shrink(made, 64), shrink(wanted, 64))
        agree = (said - read.detach()).abs().mean() + 0.2 * (read - said.detach()).abs().mean()
        loss = loss + 0.1 * features.float() + 0.1 * agree + 0.1 * (again - style.detach()).abs().mean()
        measures = {"loss": loss.detach(), "l1": (made.detach() - wanted).abs().mean(), "agree": agree.detach()}
        if done >= SHARPEN_FROM and arguments.adversarial:
            with torch.autocast(device.type, torch.bfloat16):
                loss = loss + arguments.adversarial * F.softplus(-logit_of(critic, made, domain).float()).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(makers, 2.0)
        optimizer.step()
        if done >= CRITIC_FROM:
            measures |= train_critic(critic, critic_optimizer, wanted, made.detach(), domain, job.step)
        average.update(networks, job.step)
        job.finish_step(**measures)
        if time.monotonic() - written_at > 100:
            written_at = time.monotonic()
            save_sheet(job.folder / "latest.png", torch.cat([faces[:8], references[:8], wanted[:8], made[:8].detach()]))
            if arguments.export:
                write_weights(arguments.export, average)
    job.save()
    save_sheet(job.folder / "latest.png", torch.cat([faces[:8], references[:8], wanted[:8], made[:8].detach()]))
    if arguments.export:
        write_weights(arguments.export, average)


if __name__ == "__main__":
    main()

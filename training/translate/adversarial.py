"""Train the StarGAN v2 of hair: supervised, because the answers can be drawn, and adversarial for the rest.

    python -m training.translate.adversarial --minutes 9 --batch 48 --workers 5    # on a GPU
    python -m training.translate.adversarial --steps 20000 --batch 8

Losses of Choi et al. 2020 (Eqs. 1 to 5: adversarial, style reconstruction, diversity, cycle), and the drawing loss to
the answer where the style comes from a reference. The mapping network's styles are to be spread as those of
references are, domain by domain (energy distance, Szekely and Rizzo 2013).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.checkpoints import read_safetensors, write_safetensors
from engine.networks import stargan2
from engine.networks.mini_tower import MiniTower
from training.avatars import larger, synthesis
from training.jobs import Average, Job, Pace, pick_device, save_sheet, shrink
from training.translate.pairs import DOMAINS, pairs

FOLDER = Path("training/runs/translate")
WIDTHS = (24, 48, 96, 160)  # of the generator
ENCODER_WIDTHS = (16, 32, 64, 96, 128, 160)
CRITIC_WIDTHS = (24, 48, 96, 128, 160, 192)
STYLE_DIM, LATENT_DIM, HIDDEN = 32, 16, 256
NETWORKS = ("generator", "mapping_network", "style_encoder", "discriminator")
R1_EVERY, R1_GAMMA = 8, 1.0
ADVERSARIAL_FROM = 0.25  # share of the training


class Networks(nn.Module):
    """The four networks of StarGAN v2."""

    def __init__(self) -> None:
        super().__init__()
        count = len(DOMAINS)
        self.generator = stargan2.Generator(WIDTHS, STYLE_DIM)
        self.mapping_network = stargan2.MappingNetwork(LATENT_DIM, STYLE_DIM, count, hidden=HIDDEN)
        self.style_encoder = stargan2.StyleEncoder(ENCODER_WIDTHS, STYLE_DIM, count)
        self.discriminator = stargan2.Discriminator(CRITIC_WIDTHS, count)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, a=stargan2.SLOPE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def r1_penalty(critic: stargan2.Discriminator, images: Tensor, domains: Tensor) -> Tensor:
    """gamma / 2 |grad D|^2 on real pictures (Mescheder et al. 2018, Eq. 9), scaled for being lazy."""
    images = images.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(images, domains).sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean() * (R1_GAMMA / 2 * R1_EVERY)


def energy_distance(ours: Tensor, theirs: Tensor, domains: Tensor) -> Tensor:
    """Mean over the domains of 2 E|X - Y| - E|X - X'| - E|Y - Y'|; rows [N, S] of the same domains [N]."""
    same = domains[:, None] == domains
    other = same & ~torch.eye(len(domains), dtype=torch.bool, device=domains.device)

    def mean(distances: Tensor, of: Tensor) -> Tensor:
        return (distances * of).sum() / of.sum().clamp(min=1)

    def distances(first: Tensor, second: Tensor) -> Tensor:
        return ((first[:, None] - second).square().sum(-1) + 1e-8).sqrt()

    result = 2 * mean(distances(ours, theirs), same)
    return result - mean(distances(ours, ours), other) - mean(distances(theirs, theirs), other)


def drawing_losses(tower: MiniTower, made: Tensor, wanted: Tensor, step: int) -> Tensor:
    """How far pictures [N, 3, 128, 128] are from the drawings wanted."""
    weight = larger.focus(wanted)
    loss = synthesis.drawing_loss(made, wanted, weight / weight.mean())
    view = larger.face if step % 2 else nn.Identity()
    with torch.autocast(wanted.device.type, torch.bfloat16):
        features = synthesis.feature_loss(tower, shrink(view(made), 64), shrink(view(wanted), 64))
    return loss + 0.1 * features.float()


def write_weights(folder: Path, networks: Networks) -> None:
    """The four networks in half precision, a file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        state = networks.get_submodule(name).state_dict()
        write_safetensors(
            folder / f"{name}.safetensors", {key: value.cpu() for key, value in state.items()}, dtype=torch.float16
        )


def read_weights(folder: Path) -> Networks:
    """What `write_weights` wrote."""
    networks = Networks()
    for name in NETWORKS:
        networks.get_submodule(name).load_state_dict(read_safetensors(folder / f"{name}.safetensors"))
    return networks.eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, help="end after these, the schedule with them")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw ahead")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--from", type=Path, dest="start", help="start from the weights in this folder")
    parser.add_argument("--export", type=Path, help="write the averages into this folder at every sheet")
    arguments = parser.parse_args()
    torch.manual_seed(61)
    device = pick_device(arguments.device)
    networks = Networks() if arguments.start is None else read_weights(arguments.start).train().requires_grad_(True)
    networks.to(device).to(memory_format=torch.channels_last)
    generator, critic = networks.generator, networks.discriminator
    mapping, encoder = networks.mapping_network, networks.style_encoder
    optimizer = torch.optim.Adam(
        [
            {"params": [*generator.parameters(), *encoder.parameters()], "lr_scale": 1.0},
            {"params": list(mapping.parameters()), "lr_scale": 0.3},
        ],
        lr=arguments.rate, betas=(0.5, 0.99),
    )  # fmt: skip
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=5e-4, betas=(0.0, 0.99))
    average, job = Average(networks, 0.998), Job(FOLDER, minutes=4.0)
    job.resume(networks=networks, optimizer=optimizer, critic_optimizer=critic_optimizer, average=average)
    tower = larger.load_features().to(device)
    pace, pictures_at = Pace(arguments.steps, arguments.minutes), time.monotonic()
    drawn = pairs(arguments.batch, 62, job.step, workers=arguments.workers, device=device)
    averaged = Networks()
    for source, reference, answer, domains, others in drawn:
        done = pace.set_rate(optimizer, job.step, arguments.rate)
        if done >= 1:
            break
        listened = done >= ADVERSARIAL_FROM
        noise = torch.Generator(device).manual_seed(63_000_000 + job.step)
        z = torch.randn(2, len(source), LATENT_DIM, generator=noise, device=device)
        referred = encoder(reference, others)
        drawn_styles = [mapping(part, others) for part in z]
        made, latent, second = generator(
            source.repeat(3, 1, 1, 1), torch.cat([referred, *drawn_styles])
        ).chunk(3)  # fmt: skip
        back = generator(torch.cat([made, latent]), encoder(source, domains).repeat(2, 1))
        loss = drawing_losses(tower, made, answer, job.step)
        loss = loss + 0.5 * drawing_losses(tower, back, source.repeat(2, 1, 1, 1), job.step + 1)
        found = encoder(torch.cat([made, latent]), others.repeat(2))
        loss = loss + (found - torch.cat([referred.detach(), drawn_styles[0]])).abs().mean()
        loss = loss + energy_distance(torch.cat(drawn_styles), referred.detach().repeat(2, 1), others.repeat(2))
        loss = loss - 0.3 * (1 - done) * (latent - second.detach()).abs().mean().clamp(max=0.3)
        measures = {"loss": loss.detach(), "l1": (made.detach() - answer).abs().mean()}
        fakes, of = torch.cat([made, latent]), others.repeat(2)
        if listened:
            loss = loss + 0.1 * F.softplus(-critic(fakes, of)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(list(chain.from_iterable(_parameters(optimizer))), 5.0)
        optimizer.step()
        on_real, on_fake = critic(answer, others), critic(fakes.detach(), of)
        critic_loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        if job.step % R1_EVERY == 0:
            critic_loss = critic_loss + r1_penalty(critic, answer, others)
        critic_optimizer.zero_grad(set_to_none=True)
        critic_loss.backward()
        critic_optimizer.step()
        average.update(networks, job.step)
        job.finish_step(**measures, real=on_real.detach().mean(), made=on_fake.detach().mean())
        if time.monotonic() - pictures_at > 60:
            pictures_at = time.monotonic()
            rows = (source, reference, answer, made.detach(), latent.detach())
            save_sheet(job.folder / "latest.png", torch.cat([row[:8] for row in rows]))
            if arguments.export:
                averaged.load_state_dict(average.state_dict())
                write_weights(arguments.export, averaged)
    job.save()
    if arguments.export:
        averaged.load_state_dict(average.state_dict())
        write_weights(arguments.export, averaged)


def _parameters(optimizer: torch.optim.Optimizer) -> Iterable[list[nn.Parameter]]:
    return (group["params"] for group in optimizer.param_groups)


if __name__ == "__main__":
    main()

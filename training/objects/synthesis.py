"""A StyleGAN2 synthesis network that draws every picture of the pool from a place of its own in W.

    python -m training.objects.synthesis --minutes 9 --batch 128    # on a GPU; on a CPU --steps 30000 --batch 16

An auto-decoder (Bojanowski et al. 2018, Optimizing the Latent Space of Generative Networks): the places are learned
with the network. w is an entry's place, then the colours of ink (of icons) and ground. Places are shown with noise,
so that what lies near draws nearly the same. In the last part a discriminator (non-saturating logistic loss, lazy R1)
sees what lies between two neighbours too, which no drawing says anything of.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.checkpoints import read_safetensors, write_safetensors
from engine.networks.mini_tower import MiniTower
from engine.networks.stylegan2 import Discriminator, Generator
from training.avatars import adversarial, larger, synthesis
from training.jobs import Average, Job, Pace, pick_device, save_sheet, shrink
from training.mosaic import colours
from training.objectives import NON_SATURATING
from training.objects import pool

FOLDER = Path("training/runs/objects/synthesis")
TOWER = Path("assets/clip-mosaic/clip-mosaic.safetensors")
COLOURS = 7  # coordinates of w: ink, ground, whether there is an ink
Z_DIM = 128
W_DIM = pool.DIMENSIONS + COLOURS
CHANNELS = {4: 256, 8: 256, 16: 192, 32: 128, 64: 64, 128: 32}
CRITIC_CHANNELS = {4: 192, 8: 192, 16: 128, 32: 96, 64: 48, 128: 24}
SIZES = (32, 64)  # px of the smaller pictures that are to be right as well
NOISE = 0.08  # of a place, in units of its coordinates
NEIGHBOURS = 8
CRITIC_FROM, SHARPEN_FROM = 0.5, 0.6  # share of the training


def build() -> Generator:
    """The generator with untrained weights; one w for every layer."""
    generator = Generator(Z_DIM, 0, W_DIM, pool.SIZE, channels=CHANNELS, mapping_layers=4, layer_features=512)
    for size in (128, *SIZES[1:]):
        nn.init.zeros_(generator.get_parameter(f"synthesis.b{size}.torgb.weight"))
    return generator


def build_discriminator() -> Discriminator:
    """No minibatch statistics: a particle's realism must not depend on the others."""
    return Discriminator(0, pool.SIZE, channels=CRITIC_CHANNELS, mbstd_channels=0)


class Entries(nn.Module):
    """The places [N, DIMENSIONS], as they are learned."""

    def __init__(self, places: Tensor) -> None:
        super().__init__()
        self.places = nn.Embedding.from_pretrained(places, freeze=False, sparse=True)

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.places(rows)
        return found


def colours_of_look(ink: Tensor, ground: Tensor, has_ink: Tensor) -> Tensor:
    """Colours [N, 3] in [0, 1] and flags [N] -> the last coordinates of w [N, COLOURS], about of unit variance."""
    return torch.cat([(ink - 0.5) * 3 * has_ink[:, None], (ground - 0.6) * 3, has_ink[:, None] - 0.5], dim=1)


class Looks:
    """Draws inks and grounds on the device."""

    def __init__(self, device: torch.device) -> None:
        self.inks = torch.tensor(list(colours.INKS.values()), device=device) / 255
        self.grounds = torch.tensor(list(colours.GROUNDS.values()), device=device) / 255

    def draw(self, pictures: Tensor, icons: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """pictures: premultiplied uint8 [N, S, S, 4]; icons: bool [N] -> images [N, 3, S, S] and `colours_of_look`."""
        count, device = len(pictures), pictures.device

        def shades(named: Tensor) -> Tensor:
            chosen = torch.randint(len(named), (count,), generator=generator, device=device)
            offset = torch.rand(count, 3, generator=generator, device=device) - 0.5
            return (named[chosen] + 0.12 * offset).clamp(0, 1)

        ink, ground = shades(self.inks), shades(self.grounds)
        too_near = (ink - ground).abs().sum(1) < 0.7
        ink = torch.where(too_near[:, None], ((ground.mean(1) < 0.5).float())[:, None].expand(-1, 3), ink)
        has_ink = icons.float()
        whole = pictures.permute(0, 3, 1, 2).float() / 255
        colour, alpha = whole[:, :3], whole[:, 3:]
        colour = torch.where(icons[:, None, None, None], ink[:, :, None, None] * alpha, colour)
        images = (colour + ground[:, :, None, None] * (1 - alpha)) * 2 - 1
        return images.contiguous(memory_format=torch.channels_last), colours_of_look(ink, ground, has_ink)


def neighbours(places: Tensor, count: int = NEIGHBOURS) -> Tensor:
    """The nearest other places of each [N, count]."""
    found = [torch.cdist(part, places).topk(count + 1, largest=False).indices[:, 1:] for part in places.split(1024)]
    return torch.cat(found)


def load_tower() -> MiniTower:
    """The image tower of the bundled prompt model, for feature losses."""
    prefix = "visual.trunk."
    state = {
        name.removeprefix(prefix): value for name, value in read_safetensors(TOWER).items() if name.startswith(prefix)
    }
    network = MiniTower()
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def quarter(images: Tensor, where: int) -> Tensor:
    """One of the four quarters of the pictures, pixel by pixel: what the tower sees has 64 px."""
    half = images.shape[-1] // 2
    top, left = half * (where // 2), half * (where % 2)
    return images[..., top : top + half, left : left + half]


def drawing_losses(tower: MiniTower, made: dict[int, Tensor], wanted: Tensor, step: int) -> Tensor:
    """How far the pictures of every size are from those wanted [N, 3, 128, 128]."""
    grey = wanted.mean(1, keepdim=True)
    across, down = synthesis.image_gradients(grey)
    edges = F.pad(across.abs(), (0, 1)) + F.pad(down.abs(), (0, 0, 0, 1))
    weight = 1 + 2 * F.max_pool2d((2 * edges).clamp(max=1), 5, stride=1, padding=2)
    loss = synthesis.drawing_loss(made[pool.SIZE], wanted, weight / weight.mean())
    for size in SIZES:
        smaller = F.adaptive_avg_pool2d(wanted, size)
        loss = loss + 0.4 * (made[size] - smaller).abs().mean()
    with torch.autocast(wanted.device.type, torch.bfloat16):
        ours, theirs = shrink(made[pool.SIZE], 64), shrink(wanted, 64)
        features = synthesis.feature_loss(tower, ours, theirs)
        part = step % 4
        features = features + 0.5 * synthesis.feature_loss(tower, quarter(made[128], part), quarter(wanted, part))
    return loss + 0.15 * features.float()


def write_weights(path: Path, generator: Generator, entries: Entries) -> None:
    """The averages and the places in half precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {f"synthesis.{name}": value for name, value in generator.synthesis.state_dict().items()}
    parts["places"] = entries.places.weight
    write_safetensors(path, {name: value.detach().cpu() for name, value in parts.items()}, dtype=torch.float16)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--minutes", type=float, help="end after these, the schedule with them")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--adversarial", type=float, default=0.02, help="weight of the adversarial loss")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--from", type=Path, dest="start", help="start from these weights, of the same pictures")
    parser.add_argument("--export", type=Path, help="write the averages here at every sheet")
    arguments = parser.parse_args()
    torch.manual_seed(51)
    device = pick_device(arguments.device)
    data = pool.open_pool()
    rows = torch.from_numpy(data.rows(held_out=False)).to(device)
    pictures = torch.from_numpy(data.pictures).to(device)
    icons = torch.tensor([facts["source"] == "icons" for facts in data.facts], device=device)
    generator, critic = build().to(device), build_discriminator().to(device)
    entries = Entries(torch.from_numpy(data.places)).to(device)
    if arguments.start:
        start = read_safetensors(arguments.start)
        known = {
            name.removeprefix("synthesis."): value for name, value in start.items() if name.startswith("synthesis.")
        }
        generator.synthesis.load_state_dict(known)
        entries.places.weight.data.copy_(start["places"])
    near = neighbours(torch.from_numpy(data.places).to(device))
    optimizer = torch.optim.Adam(generator.synthesis.parameters(), lr=arguments.rate, betas=(0.9, 0.99))
    places_optimizer = torch.optim.SparseAdam(list(entries.parameters()), lr=1e-2)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.0, 0.99))
    average = Average(generator, 0.998)
    job = Job(FOLDER, minutes=4.0)
    job.resume(
        generator=generator, critic=critic, entries=entries, optimizer=optimizer, places_optimizer=places_optimizer,
        critic_optimizer=critic_optimizer, average=average,
    )  # fmt: skip
    tower, looks = load_tower().to(device), Looks(device)
    pace, pictures_at = Pace(arguments.steps, arguments.minutes), time.monotonic()
    averaged = build()

    def export() -> None:
        averaged.load_state_dict(average.state_dict())
        if arguments.export:
            write_weights(arguments.export, averaged, entries)

    while (done := pace.set_rate(optimizer, job.step, arguments.rate)) < 1:
        for group in places_optimizer.param_groups:
            group["lr"] = 1e-2 * optimizer.param_groups[0]["lr"] / arguments.rate
        draws = torch.Generator(device).manual_seed(52_000_000 + job.step)
        chosen = rows[torch.randint(len(rows), (arguments.batch,), generator=draws, device=device)]
        wanted, look = looks.draw(pictures[chosen], icons[chosen], draws)
        places = entries(chosen)
        noisy = places + NOISE * torch.randn(places.shape, generator=draws, device=device)
        made = _synthesize(generator, torch.cat([noisy, look], dim=1))
        loss = drawing_losses(tower, made, wanted, job.step) + 1e-3 * F.relu(places.square().mean(1) - 1.5).mean()
        measures = {"loss": loss.detach(), "l1": (made[pool.SIZE].detach() - wanted).abs().mean()}
        critical = done >= CRITIC_FROM
        if critical:
            # Half of what the discriminator sees lies between neighbours.
            half = arguments.batch // 2
            other = near[chosen[:half], torch.randint(NEIGHBOURS, (half,), generator=draws, device=device)]
            share = torch.rand(half, 1, generator=draws, device=device)
            between = torch.lerp(places[:half].detach(), entries(other).detach(), share)
            blends = _synthesize(generator, torch.cat([between, look[:half]], dim=1))[pool.SIZE]
            judged = torch.cat([blends, made[pool.SIZE][half:]])
            if done >= SHARPEN_FROM and arguments.adversarial:
                with torch.autocast(device.type, torch.bfloat16):
                    on_judged = critic(judged).float()
                loss = loss + arguments.adversarial * NON_SATURATING.generator(on_judged)
        optimizer.zero_grad(set_to_none=True)
        places_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        places_optimizer.step()
        average.update(generator, job.step)
        if critical:
            measures |= adversarial.train_critic(critic, critic_optimizer, wanted, judged.detach(), job.step)
        job.finish_step(**measures)
        if time.monotonic() - pictures_at > 60:
            pictures_at = time.monotonic()
            sheet = [wanted[:16], made[pool.SIZE][:16].detach(), *([blends[:8].detach()] if critical else [])]
            save_sheet(job.folder / "latest.png", torch.cat(sheet))
            export()
    job.save()
    export()


def _synthesize(generator: Generator, w: Tensor) -> dict[int, Tensor]:
    with torch.autocast(w.device.type, torch.bfloat16):
        return {size: images.float() for size, images in larger.synthesize(generator, w, pool.SIZE).items()}


if __name__ == "__main__":
    main()

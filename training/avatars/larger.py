"""The avatars at 256 px: the bundled 128-px generator gets one more block, the extras, and cleaner targets.

    python -m training.avatars.larger --from-bundle --size 256 --half-steps 12000 --steps 20000
    python -m training.avatars.larger --from training/checkpoints/avatars-256.safetensors
    python -m training.avatars.larger --figures     # of the newest weights, on held-out drawings

Every step draws pictures of its own: drawing one takes 4 ms. Most places that are asked for are settled ones
(`traits.settle`): where runs of the flow end, far from the named values, w is to be settled before it reaches the
synthesis network. That network sees w through linear layers; given places between four hats it smears, and it would
take much of its capacity to learn where one hat becomes another. The rest are the prior's, as they come.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.checkpoints import read_safetensors, write_safetensors
from engine.networks.mini_tower import MiniTower
from engine.networks.stylegan2 import Generator
from training.avatars import pool, synthesis, traits
from training.jobs import Average, Job, save_sheet, set_schedule, shrink, to_tensor

FOLDER = Path("training/runs/avatars/larger")
BUNDLE = Path("assets/avatars")
CHECKPOINT = Path("training/checkpoints/avatars-256.safetensors")
CHANNELS = {**synthesis.CHANNELS, 256: 12}
Z_DIM = traits.latent_size() + len(traits.EXTRAS)
W_DIM = traits.WIDE
HELD_OUT = 256  # pictures behind the figures
SMALL_PARTS = 2.0  # extra weight of what is near an edge; most of a drawing is flat and soon right


def build(size: int = 256) -> Generator:
    """A generator of `size` px with untrained weights; its W is the space of traits with the extras."""
    channels = {resolution: count for resolution, count in CHANNELS.items() if resolution <= size}
    return Generator(Z_DIM, 0, W_DIM, size, channels=channels, mapping_layers=4, layer_features=512)


@cache
def statistics() -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [WIDE] of the prior's traits; those of the first SIZE are the bundle's."""
    mean, deviation = synthesis.trait_statistics()
    z = np.random.default_rng(6).standard_normal((50_000, len(traits.EXTRAS))).astype(np.float32)
    extras = traits.extras_from_gaussian(z)
    return np.concatenate([mean, extras.mean(0)]), np.concatenate([deviation, extras.std(0)])


@cache
def _spread() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cholesky factor of the prior's covariance and its extremes, as the engine's W has them."""
    drawn = traits.sample(np.random.default_rng(7), 20_000, extras=True).astype(np.float64)
    covariance = np.cov(drawn.T) + 1e-6 * np.eye(W_DIM)
    return np.linalg.cholesky(covariance), drawn.min(0), drawn.max(0)


def asked_traits(rng: np.random.Generator, count: int) -> np.ndarray:
    """Traits [count, WIDE] from all that the flow can reach.

    Two fifths are the prior's, half of them with noise; one fifth lies on lines through two of the prior's; two
    fifths are Gaussian, wider or narrower in every coordinate, within the prior's extremes.
    """
    result = traits.sample(rng, count, extras=True)
    kind = rng.permutation(count) * 10 // count
    noisy, between, wide = kind < 2, (kind >= 4) & (kind < 6), kind >= 6
    noise = rng.standard_normal(result.shape).astype(np.float32)
    result += np.where(noisy, 0.15 * rng.uniform(size=count), 0).astype(np.float32)[:, None] * noise
    other = traits.sample(rng, count, extras=True)
    share = np.where(between, rng.uniform(-0.2, 1.2, size=count), 0).astype(np.float32)[:, None]
    result += share * (other - result)
    factor, low, high = _spread()
    scale = rng.uniform(0.6, 1.5, size=(count, 1)) * rng.uniform(0.75, 1.25, size=result.shape)
    gaussian = np.clip(statistics()[0] + scale * (noise @ factor.T), low, high)
    return np.where(wide[:, None], gaussian, result).astype(np.float32)


def settling_tensors(leak: float, size: int = W_DIM) -> dict[str, Tensor]:
    """`traits.settle` as a model's latents file describes it to the engine; size: `traits.SIZE` without extras."""
    mean, deviation = (values[:size] for values in statistics())
    low, high = np.zeros(size), np.ones(size)
    low[traits.LAYOUT["proportions"]], high[traits.LAYOUT["proportions"]] = -2, 2
    parts: dict[str, object] = {"mean": mean, "deviation": deviation, "low": low, "high": high, "leak": leak}
    columns = {group: np.arange(part.start, part.stop) for group, part in traits.LAYOUT.items()}
    for group, power in traits.POWERS.items():
        parts |= {f"choice.{group}": columns[group], f"power.{group}": power}
    for group, pull in traits.PULLS.items():
        parts |= {
            f"palette.{group}": columns[group], f"named.{group}": traits.anchors(group),
            f"pull.{group}": pull, f"width.{group}": traits.PULL_WIDTH,
        }  # fmt: skip
    parts |= {
        "line.skin": columns["skin"], "corners.skin": traits.anchors("skin"), "tolerance.skin": traits.SKIN_TINT,
    }  # fmt: skip
    if size > traits.SIZE:
        parts["switches"] = np.arange(traits.SIZE, size)
    tensors = {f"settle.{name}": torch.as_tensor(value) for name, value in parts.items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def examples(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What the synthesis network is given and what it has to draw: traits [count, WIDE] each.

    Two thirds are settled places of all that the flow reaches. The others are the prior's blends, half of them with
    noise, so that it draws the ways between the values too.
    """
    settled = count * 2 // 3
    given = traits.settle(asked_traits(rng, settled))
    blends = traits.sample(rng, count - settled, extras=True)
    noise = rng.standard_normal(blends.shape).astype(np.float32)
    blends += 0.1 * rng.uniform(-1, 1, size=(len(blends), 1)).clip(0).astype(np.float32) * noise
    given = np.concatenate([given, blends]).astype(np.float32)[rng.permutation(count)]
    return given, traits.project(given)


def widened(weights: Mapping[str, Tensor], wide: Generator) -> dict[str, Tensor]:
    """The synthesis weights of the 128-px generator, in the names and shapes of `wide`.

    The new columns of the affine layers start at 0: without training, an extra changes nothing. The new block's
    torgb starts at 0, so the picture is the old one, upsampled.
    """
    result = wide.state_dict()
    size = max(wide.synthesis.block_resolutions)
    for name in result:
        if name.startswith("synthesis.") and name in weights:
            value = weights[name]
            if name.endswith("affine.weight"):
                # The layer divides by the root of its inputs' number, which grows.
                value = F.pad(value, (0, W_DIM - value.shape[1])) * (W_DIM / value.shape[1]) ** 0.5
            if value.shape == result[name].shape:
                result[name] = value
    if f"synthesis.b{size}.torgb.weight" not in weights:
        result[f"synthesis.b{size}.torgb.weight"] = torch.zeros_like(result[f"synthesis.b{size}.torgb.weight"])
    for name in result:
        if name.endswith(("noise_const", "noise_strength")):
            result[name] = torch.zeros_like(result[name])
    return result


def synthesize(generator: Generator, w: Tensor, resolution: int | None = None) -> list[Tensor]:
    """w [N, W_DIM] -> the pictures of the last two sizes, smaller first; blocks above `resolution` are left out."""
    network = generator.synthesis
    ws = w[:, None].expand(-1, network.num_ws, -1)
    x = images = None
    made: list[Tensor] = []
    for i, size in enumerate(network.block_resolutions):
        if resolution is not None and size > resolution:
            break
        block = network.get_submodule(f"b{size}")
        x, images = block(x, images, ws[:, max(0, 2 * i - 1) :], noise_mode="none", generator=None)
        made.append(images)
    return made[-2:]


def focus(wanted: Tensor) -> Tensor:
    """Weights [N, 1, H, W]: the face and whatever is near an edge count more, flat areas 1."""
    size = wanted.shape[-1]
    grey = wanted.mean(1, keepdim=True)
    across, down = (F.pad(part.abs(), pad) for part, pad in zip(
        synthesis.image_gradients(grey), ((0, 1, 0, 0), (0, 0, 0, 1)), strict=True
    ))  # fmt: skip
    near = F.max_pool2d((across + down).clamp(max=0.5) * 2, size // 32 + 1, stride=1, padding=size // 64)
    return synthesis.face_weight(size, 1.0) * (1 + SMALL_PARTS * near)


def face(images: Tensor) -> Tensor:
    """The half of the picture around eyes and mouth, at its own pixels."""
    size = images.shape[-1]
    top, left, half = round(0.28 * size), size // 4, size // 2
    return images[..., top : top + half, left : left + half]


def load_features() -> MiniTower:
    """The bundled encoder: its stages know every trait, and it never judges."""
    network = MiniTower(num_classes=traits.SIZE)
    network.load_state_dict(read_safetensors(BUNDLE / "encoder.safetensors"))
    return network.eval().requires_grad_(False)


def load_average(size: int = 256, folder: Path | None = None) -> tuple[Generator, int]:
    """The newest averaged weights of a run and its step; of the checkpoint where there is no run."""
    folder = folder or FOLDER
    generator = build(size)
    if (folder / "state.pt").exists():
        state = torch.load(folder / "state.pt", weights_only=True)
        generator.load_state_dict(state["parts"]["average"])
        return generator.eval().requires_grad_(False), int(state["step"])
    generator.load_state_dict(widened(read_safetensors(CHECKPOINT), generator))
    return generator.eval().requires_grad_(False), 0


@torch.no_grad()
def figures(generator: Generator, *, size: int = 256, count: int = HELD_OUT) -> dict[str, float]:
    """Errors to held-out drawings, beside those of the bundled 128-px generator, upsampled.

    "prior": what random samples ask for. "settled": settled places from all of W that the flow can reach. Both without
    extras, which the bundle does not know; "extras": settled places with them. PSNR is of the mean squared error in
    [0, 1]; edges: mean gradient over that of the drawings, above 1 where contours are doubled or flat areas are not
    flat. Blur does not lower it.
    """
    bundled = synthesis.build()
    bundled.load_state_dict(read_safetensors(BUNDLE / "generator.safetensors"))
    bundled.eval()
    rng = np.random.default_rng(pool.HELD_OUT_SEED)
    prior, reached = traits.sample(rng, count, extras=True), asked_traits(rng, count)
    places = {"prior": prior, "settled": traits.settle(reached), "extras": traits.settle(reached)}
    for name in ("prior", "settled"):
        places[name][:, traits.SIZE :] = 0
    result: dict[str, float] = {}
    for name, given in places.items():
        sums: dict[str, list[float]] = {}
        for rows in np.array_split(given, max(1, count // 8)):
            wanted = to_tensor(pool.render(rows, size))
            pictures = {"256 px": synthesize(generator, synthesis.to_w(rows, statistics()))[-1].clamp(-1, 1)}
            if name != "extras":
                w = synthesis.to_w(rows[:, : traits.SIZE], synthesis.trait_statistics())
                small = synthesis.synthesize(bundled, w)
                pictures["128 px, upsampled"] = F.interpolate(
                    small, size=(size, size), mode="bicubic", align_corners=False
                ).clamp(-1, 1)
            for label, picture in pictures.items():
                error = picture - wanted
                ours, theirs = (
                    sum(part.abs().mean().item() for part in synthesis.image_gradients(images))
                    for images in (picture, wanted)
                )
                for measure, value in (
                    ("L1", error.abs().mean().item()), ("MSE", error.square().mean().item() / 4),
                    ("edges", ours / theirs),
                ):  # fmt: skip
                    sums.setdefault(f"{name}, {label}, {measure}", []).append(value)
        for key, values in sums.items():
            mean = float(np.mean(values))
            if key.endswith("MSE"):
                key, mean = key.replace("MSE", "PSNR"), float(-10 * np.log10(mean))
            result[key] = round(mean, 4)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--size", type=int, default=256, choices=(128, 256))
    parser.add_argument("--half-steps", type=int, default=0, help="first steps, which leave the last block out")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=4e-3)  # at 1e-2, batches of 8: no better
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--from-bundle", action="store_true", help="start from the bundled 128-px generator")
    start.add_argument("--from", type=Path, dest="checkpoint", help="start from these weights")
    parser.add_argument("--figures", action="store_true", help="print the figures of the newest weights and end")
    parser.add_argument("--export", type=Path, help="write the newest average as float16 and end")
    arguments = parser.parse_args()
    if arguments.figures or arguments.export:
        generator, step = load_average(arguments.size)
        if arguments.export:
            names = generator.synthesis.state_dict()
            arguments.export.parent.mkdir(parents=True, exist_ok=True)
            write_safetensors(arguments.export, {f"synthesis.{name}": value for name, value in names.items()},
                              dtype=torch.float16)  # fmt: skip
        if arguments.figures:
            print(json.dumps({"step": step, **figures(generator, size=arguments.size)}, indent=2))
        return
    torch.manual_seed(9)
    generator = build(arguments.size)
    start_at = BUNDLE / "generator.safetensors" if arguments.from_bundle else arguments.checkpoint
    if start_at is not None:
        generator.load_state_dict(widened(read_safetensors(start_at), generator))
    optimizer = torch.optim.Adam(generator.synthesis.parameters(), lr=arguments.rate, betas=(0.9, 0.99))
    average = Average(generator, 0.998)
    job = Job(FOLDER)
    job.resume(generator=generator, optimizer=optimizer, average=average)
    tower = load_features()
    while job.step < arguments.steps:
        set_schedule(optimizer, job.step, arguments.steps, arguments.rate)
        size = arguments.size // 2 if job.step < arguments.half_steps else arguments.size
        given, shown = examples(np.random.default_rng((9, job.step)), arguments.batch)
        wanted, w = to_tensor(pool.render(shown, size)), synthesis.to_w(given, statistics())
        with torch.autocast("cpu", torch.bfloat16):
            smaller, made = (images.float() for images in synthesize(generator, w, size))
        weight = focus(wanted)
        loss = synthesis.drawing_loss(made, wanted, weight / weight.mean())
        half = F.avg_pool2d(wanted, 2)
        loss = loss + 0.3 * (smaller - half).abs().mean()
        # The whole picture and the face in turn: at 64 px, what the features see, an eye has five pixels.
        view = face if job.step % 2 else torch.nn.Identity()
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss + 0.1 * synthesis.feature_loss(tower, shrink(view(made), 64), shrink(view(wanted), 64)).float()
        optimizer.zero_grad(set_to_none=True)  # a block that is not in use yet keeps its weights
        loss.backward()
        optimizer.step()
        average.update(generator, job.step)
        job.finish_step(loss=loss.item(), l1=(made.detach() - wanted).abs().mean().item())
        if job.step % 250 == 0:
            save_sheet(job.folder / "latest.png", torch.cat([wanted[:8], made[:8].detach()]))
    job.save()


if __name__ == "__main__":
    main()

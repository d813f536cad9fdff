"""The avatars at 256 px: the 128-px generator gets a wider last block, one more, the extras, and cleaner targets.

    python -m training.avatars.larger --steps 20000
    python -m training.avatars.larger --minutes 9 --batch 64 --workers 8     # on a GPU
    python -m training.avatars.larger --figures     # of the newest weights, on held-out drawings

Every step draws pictures of its own: drawing one takes 4 ms. Most places that are asked for are settled ones
(`traits.settle`): where runs of the flow end, far from the named values, w is to be settled before it reaches the
synthesis network. That network sees w through linear layers; given places between four hats it smears, and it would
take much of its capacity to learn where one hat becomes another. The rest are the prior's, as they come.

The picture is right at every size: what the blocks up to 64 or 128 px have drawn is the picture, reduced. So a flow
can look at small pictures and leave the large blocks out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.checkpoints import read_safetensors, write_safetensors
from engine.networks.mini_tower import MiniTower
from engine.networks.stylegan2 import Generator
from training.avatars import pool, synthesis, traits
from training.avatars.stream import asked_traits, statistics, stream
from training.jobs import Average, Job, Pace, pick_device, save_sheet, shrink, to_tensor

FOLDER = Path("training/runs/avatars/larger")
BUNDLE = Path("assets/avatars")
RESOLUTION = 256
DRAFTS = (64, 128)  # px of the smaller pictures that are to be right as well
CHANNELS = {**synthesis.CHANNELS, 128: 32, 256: 16}
Z_DIM = traits.latent_size() + len(traits.EXTRAS)
W_DIM = traits.WIDE
HELD_OUT = 256  # pictures behind the figures
SMALL_PARTS = 2.0  # extra weight of what is near an edge; most of a drawing is flat and soon right


def build() -> Generator:
    """The generator with untrained weights; its W is the space of traits with the extras."""
    return Generator(Z_DIM, 0, W_DIM, RESOLUTION, channels=CHANNELS, mapping_layers=4, layer_features=512)


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


def widened(weights: Mapping[str, Tensor], wide: Generator) -> dict[str, Tensor]:
    """The weights of a smaller or narrower generator, in the names and shapes of `wide`.

    Where W is wider, the new columns start at 0: without training, an extra changes nothing. The mapping network's
    new inputs and outputs start as they are in `wide`. Blocks of other
    shapes stay untrained and draw nothing yet: their torgb starts at 0.
    """
    result = wide.state_dict()
    for name in result:
        value = weights.get(name)
        if value is not None:
            before, after = value.shape, result[name].shape
            if name.endswith("affine.weight") and before[:1] == after[:1]:
                # The layer divides by the root of its inputs' number, which grows.
                value = F.pad(value, (0, after[1] - before[1])) * (after[1] / before[1]) ** 0.5
            elif name == "mapping.fc0.weight":
                value = torch.cat([value, result[name][:, value.shape[1] :]], dim=1)
            if value.shape == after:
                result[name] = value
            elif name.startswith("mapping.") and name != "mapping.fc0.weight":
                result[name][: len(value)] = value
    for size in wide.synthesis.block_resolutions:
        name = f"synthesis.b{size}.torgb"
        if f"{name}.weight" not in weights or weights[f"{name}.weight"].shape != result[f"{name}.weight"].shape:
            result[f"{name}.weight"] = torch.zeros_like(result[f"{name}.weight"])
            result[f"{name}.bias"] = torch.zeros_like(result[f"{name}.bias"])
    for name in result:
        if name.endswith(("noise_const", "noise_strength")):
            result[name] = torch.zeros_like(result[name])
    return result


def synthesize(generator: Generator, w: Tensor, resolution: int = RESOLUTION) -> dict[int, Tensor]:
    """w [N, W_DIM] -> the picture at every size up to `resolution`, by its pixels; later blocks are left out."""
    network = generator.synthesis
    ws = w[:, None].expand(-1, network.num_ws, -1)
    x = images = None
    made: dict[int, Tensor] = {}
    for i, size in enumerate(network.block_resolutions):
        if size > resolution:
            break
        block = network.get_submodule(f"b{size}")
        x, images = block(x, images, ws[:, max(0, 2 * i - 1) :], noise_mode="none", generator=None)
        made[size] = images
    return made


def focus(wanted: Tensor) -> Tensor:
    """Weights [N, 1, H, W]: the face and whatever is near an edge count more, flat areas 1."""
    size = wanted.shape[-1]
    grey = wanted.mean(1, keepdim=True)
    across, down = (F.pad(part.abs(), pad) for part, pad in zip(
        synthesis.image_gradients(grey), ((0, 1, 0, 0), (0, 0, 0, 1)), strict=True
    ))  # fmt: skip
    near = F.max_pool2d((across + down).clamp(max=0.5) * 2, size // 32 + 1, stride=1, padding=size // 64)
    return synthesis.face_weight(size, 1.0).to(wanted) * (1 + SMALL_PARTS * near)


def face(images: Tensor) -> Tensor:
    """The half of the picture around eyes and mouth, at its own pixels."""
    size = images.shape[-1]
    top, left, half = round(0.28 * size), size // 4, size // 2
    return images[..., top : top + half, left : left + half]


def close_up(images: Tensor) -> Tensor:
    """Eyes and nose, in 64 of 256 px across: where the smallest parts are."""
    size = images.shape[-1]
    top, left, side = round(0.4 * size), round(0.375 * size), size // 4
    return images[..., top : top + side, left : left + side]


def load_features() -> MiniTower:
    """The attribute tower, or the bundled encoder that came of it: its stages know every trait, and neither judges."""
    tower = Path("training/runs/avatars/tower/weights.pt")
    state = torch.load(tower, weights_only=True) if tower.exists() else read_safetensors(BUNDLE / "encoder.safetensors")
    network = MiniTower(num_classes=len(state["head.bias"]))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def first_weights() -> Mapping[str, Tensor]:
    """What a run begins with: the 128-px generator that was just trained, or else the bundle's."""
    if (synthesis.FOLDER / "state.pt").exists():
        return synthesis.load_average().state_dict()
    return read_safetensors(BUNDLE / "generator.safetensors")


def load_average(folder: Path | None = None) -> tuple[Generator, int]:
    """The newest averaged weights of a run and its step; the bundle's where there is no run."""
    folder = folder or FOLDER
    generator = build()
    if (folder / "state.pt").exists():
        state = torch.load(folder / "state.pt", weights_only=True, map_location="cpu")
        generator.load_state_dict(state["parts"]["average"])
        return generator.eval().requires_grad_(False), int(state["step"])
    generator.load_state_dict(widened(first_weights(), generator))
    return generator.eval().requires_grad_(False), 0


@torch.no_grad()
def figures(generator: Generator, *, count: int = HELD_OUT) -> dict[str, float]:
    """Errors to held-out drawings, at 256 px and at the smaller sizes.

    "prior": what random samples ask for. "settled": settled places from all of W that the flow can reach; "extras":
    the same with extras. PSNR is of the mean squared error in [0, 1]; edges: mean gradient over that of the drawings,
    above 1 where contours are doubled or flat areas are not flat, below 1 where they are blurred.
    """
    rng = np.random.default_rng(pool.HELD_OUT_SEED)
    prior, reached = traits.sample(rng, count, extras=True), asked_traits(rng, count)
    places = {"prior": prior, "settled": traits.settle(reached), "extras": traits.settle(reached)}
    for name in ("prior", "settled"):
        places[name][:, traits.SIZE :] = 0
    result: dict[str, float] = {}
    for name, given in places.items():
        sums: dict[str, list[float]] = {}
        for rows in np.array_split(given, max(1, count // 8)):
            drawn = to_tensor(pool.render(rows, RESOLUTION))
            made = synthesize(generator, synthesis.to_w(rows, statistics()))
            for size in (*DRAFTS, RESOLUTION):
                picture, wanted = made[size].clamp(-1, 1), F.adaptive_avg_pool2d(drawn, size)
                error = picture - wanted
                ours, theirs = (
                    sum(part.abs().mean().item() for part in synthesis.image_gradients(images))
                    for images in (picture, wanted)
                )
                for measure, value in (
                    ("L1", error.abs().mean().item()), ("MSE", error.square().mean().item() / 4),
                    ("edges", ours / theirs),
                ):  # fmt: skip
                    sums.setdefault(f"{name}, {size} px, {measure}", []).append(value)
        for key, values in sums.items():
            mean = float(np.mean(values))
            if key.endswith("MSE"):
                key, mean = key.replace("MSE", "PSNR"), float(-10 * np.log10(mean))
            result[key] = round(mean, 4)
    return result


def drawing_losses(tower: MiniTower, made: Mapping[int, Tensor], wanted: Tensor, step: int) -> Tensor:
    """How far the pictures of every size are from the drawing [N, 3, 256, 256]."""
    weight = focus(wanted)
    loss = synthesis.drawing_loss(made[RESOLUTION], wanted, weight / weight.mean())
    for size in DRAFTS:
        smaller = F.adaptive_avg_pool2d(wanted, size)
        loss = loss + 0.5 * synthesis.drawing_loss(made[size], smaller, synthesis.face_weight(size, 1.0).to(wanted))
    # The whole picture, the face, and a part of it pixel by pixel: what the features see has 64 px.
    view = (torch.nn.Identity(), face, close_up)[step % 3]
    with torch.autocast(wanted.device.type, torch.bfloat16):
        features = synthesis.feature_loss(tower, shrink(view(made[RESOLUTION]), 64), shrink(view(wanted), 64))
        features = features + 0.3 * synthesis.feature_loss(tower, made[64], shrink(wanted, 64))
    return loss + 0.1 * features.float()


def write_weights(path: Path, generator: Generator) -> None:
    """The averages in half precision: what a later run or the export starts from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {f"synthesis.{name}": value.cpu() for name, value in generator.synthesis.state_dict().items()}
    write_safetensors(path, parts, dtype=torch.float16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--minutes", type=float, help="end after these, the schedule with them")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=4e-3)  # at 1e-2, batches of 8: no better
    parser.add_argument("--workers", type=int, default=0, help="processes that draw ahead")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--from", type=Path, dest="checkpoint", help="start from these weights")
    parser.add_argument("--figures", action="store_true", help="print the figures of the newest weights and end")
    parser.add_argument("--export", type=Path, help="write the newest averages as float16, now and at every sheet")
    arguments = parser.parse_args()
    if arguments.figures:
        generator, step = load_average()
        print(json.dumps({"step": step, **figures(generator)}, indent=2))
        return
    torch.manual_seed(9)
    device = pick_device(arguments.device)
    generator = build()
    start = read_safetensors(arguments.checkpoint) if arguments.checkpoint else first_weights()
    generator.load_state_dict(widened(start, generator))
    generator.to(device)
    optimizer = torch.optim.Adam(generator.synthesis.parameters(), lr=arguments.rate, betas=(0.9, 0.99))
    average = Average(generator, 0.998)
    job = Job(FOLDER, minutes=2.0)
    job.resume(generator=generator, optimizer=optimizer, average=average)
    tower = load_features().to(device)
    mean, deviation = (torch.from_numpy(part.astype(np.float32)).to(device) for part in statistics())
    pace, pictures_at = Pace(arguments.steps, arguments.minutes), time.monotonic()
    drawings = stream(arguments.batch, RESOLUTION, 9, job.step, workers=arguments.workers, device=device)
    averaged = build()
    for given, wanted in drawings:
        done = pace.set_rate(optimizer, job.step, arguments.rate)
        if done >= 1:
            break
        with torch.autocast(device.type, torch.bfloat16):
            made = {size: images.float() for size, images in synthesize(generator, (given - mean) / deviation).items()}
        loss = drawing_losses(tower, made, wanted, job.step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        average.update(generator, job.step)
        job.finish_step(loss=loss, l1=(made[RESOLUTION].detach() - wanted).abs().mean())
        if time.monotonic() - pictures_at > 60:
            pictures_at = time.monotonic()
            save_sheet(job.folder / "latest.png", torch.cat([wanted[:8], made[RESOLUTION][:8].detach()]))
            if arguments.export:
                averaged.load_state_dict(average.state_dict())
                write_weights(arguments.export, averaged)
    job.save()
    if arguments.export:
        averaged.load_state_dict(average.state_dict())
        write_weights(arguments.export, averaged)


if __name__ == "__main__":
    main()

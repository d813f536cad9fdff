"""What every training script shares: resumable checkpoints, a log, batches of pictures, exponential averages."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from engine.checkpoints import read_safetensors, write_safetensors
from engine.system import runtime

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class Job:
    """One resumable training run: a folder with `state.pt` (written atomically every `minutes`) and `log.txt`."""

    def __init__(self, folder: Path, *, minutes: float = 3.0) -> None:
        self.folder = folder
        self.step = 0
        self._seconds_between = 60 * minutes
        self._saved_at = time.monotonic()
        self._parts: dict[str, Any] = {}
        self._sums: dict[str, float | Tensor] = {}
        self._logged_at, self._logged_step = time.monotonic(), 0
        folder.mkdir(parents=True, exist_ok=True)
        runtime.keep_freed_memory()

    def resume(self, **parts: Any) -> None:
        """Name what has `state_dict`; load the last checkpoint into it if there is one."""
        self._parts = parts
        path = self.folder / "state.pt"
        if path.exists():
            state = torch.load(path, weights_only=True, map_location="cpu")
            for name, part in parts.items():
                part.load_state_dict(state["parts"][name])
            self.step = state["step"]
            self.log(f"resumed at step {self.step}")
        self._logged_step = self.step

    def finish_step(self, **measures: float | Tensor) -> None:
        """Count one step, add to the log every 200 steps, and save when it is time."""
        self.step += 1
        for name, value in measures.items():
            # Sums stay where they are until they are printed: nobody waits for a GPU at every step.
            self._sums[name] = self._sums.get(name, 0.0) + (value.detach() if isinstance(value, Tensor) else value)
        if self.step % 200 == 0:
            passed = self.step - self._logged_step
            rate = passed / (time.monotonic() - self._logged_at)
            means = "  ".join(f"{name} {float(total) / passed:.4f}" for name, total in self._sums.items())
            self.log(f"step {self.step}  {rate:.2f} steps/s  {means}")
            self._sums, self._logged_at, self._logged_step = {}, time.monotonic(), self.step
        if time.monotonic() - self._saved_at > self._seconds_between:
            self.save()

    def save(self) -> None:
        """Write the checkpoint beside the old one, then put it in its place."""
        path = self.folder / "state.pt"
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        torch.save({"step": self.step, "parts": parts}, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)
        self._saved_at = time.monotonic()

    def log(self, line: str) -> None:
        print(line, flush=True)
        with (self.folder / "log.txt").open("a") as file:
            file.write(line + "\n")


class Pace:
    """How far a training is: by its steps, or by its minutes where these end sooner.

    On a machine that is lent for some minutes nobody knows how many steps they are worth, and a schedule of the
    learning rate has to end when they do.
    """

    def __init__(self, steps: int, minutes: float | None = None) -> None:
        self._steps, self._seconds = steps, None if minutes is None else 60 * minutes
        self._began = time.monotonic()

    def progress(self, step: int) -> float:
        """The share that is done, 0 to 1."""
        of_time = 0.0 if self._seconds is None else (time.monotonic() - self._began) / self._seconds
        return min(1.0, max(step / self._steps, of_time))

    def set_rate(self, optimizer: torch.optim.Optimizer, step: int, peak: float, *, warmup: float = 0.02) -> float:
        """`set_schedule` by this progress; warmup: its share of the whole. Returns the progress."""
        done, parts = self.progress(step), 1_000_000
        set_schedule(optimizer, round(done * parts), parts, peak, warmup=max(1, round(warmup * parts)))
        return done


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto": a GPU where there is one. There, products may be rounded to TF32."""
    chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    if chosen.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    return chosen


def set_schedule(optimizer: torch.optim.Optimizer, step: int, steps: int, peak: float, *, warmup: int = 200) -> None:
    """Linear warm-up, then half a cosine to 2 % of the peak learning rate."""
    progress = min(1.0, step / steps)
    rate = peak * min(1.0, (step + 1) / warmup) * (0.02 + 0.49 * (1 + math.cos(math.pi * progress)))
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


State: TypeAlias = Mapping[str, Tensor]


def _as_it_is(role: str, state: State) -> State:
    return state


def write_networks(
    folder: Path, state: State, roles: Iterable[str], changed: Callable[[str, State], State] = _as_it_is
) -> None:
    """The networks that a module holds by their roles, each as a file in half precision.

    state: the module's. changed: what is written of a network, by its role and its own state.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for role in roles:
        prefix = f"{role}."
        own = {name.removeprefix(prefix): value.cpu() for name, value in state.items() if name.startswith(prefix)}
        write_safetensors(folder / f"{role}.safetensors", changed(role, own), dtype=torch.float16)


def read_networks(
    folder: Path, networks: AnyModule, roles: Iterable[str], changed: Callable[[str, State], State] = _as_it_is
) -> AnyModule:
    """The module with what `write_networks` has written. changed: what becomes of what a file holds."""
    for role in roles:
        networks.get_submodule(role).load_state_dict(changed(role, read_safetensors(folder / f"{role}.safetensors")))
    return networks


def trained(path: Path, script: str) -> Any:
    """What training has written at `path`. Where it has not, FileNotFoundError says which script to run."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `python -m {script}`")
    return torch.load(path, weights_only=True)


def steps_done(folder: Path) -> int:
    """The step of a job's last checkpoint, 0 without one."""
    path = folder / "state.pt"
    return int(torch.load(path, weights_only=True, mmap=True)["step"]) if path.exists() else 0


class Average:
    """Exponential moving average of a network's weights and buffers."""

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.shadow = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in network.state_dict().items():
                if value.is_floating_point():
                    self.shadow[name].lerp_(value, 1 - decay)
                else:
                    self.shadow[name].copy_(value)

    def state_dict(self) -> dict[str, Tensor]:
        return self.shadow

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.shadow = {name: value.to(self.shadow[name].device, copy=True) for name, value in state.items()}


def to_tensor(images: np.ndarray) -> Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] in [-1, 1], channels last."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def batches(count: int, size: int, seed: int, start_step: int) -> Iterator[np.ndarray]:
    """Sorted index batches, one shuffled pass after another, continuing where `start_step` left off."""
    per_pass = count // size
    step = start_step
    while True:
        order = np.random.default_rng((seed, step // per_pass)).permutation(count)
        for i in range(step % per_pass, per_pass):
            yield np.sort(order[i * size : (i + 1) * size])
            step += 1


def shrink(images: Tensor, size: int) -> Tensor:
    """Reduce as the prompt model does: antialiased bicubic; images [N, 3, H, W]."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bicubic", antialias=True, align_corners=False)


def save_sheet(path: Path, images: Tensor, columns: int = 8) -> None:
    """Write images [N, 3, H, W] in [-1, 1] as one picture, `columns` a row."""
    pixels = (images.float().clamp(-1, 1) * 127.5 + 128).clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    rows = [np.concatenate(list(pixels[i : i + columns]), axis=1) for i in range(0, len(pixels), columns)]
    Image.fromarray(np.concatenate([row for row in rows if row.shape == rows[0].shape], axis=0)).save(path)

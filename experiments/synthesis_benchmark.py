"""Time StyleGAN2 synthesis forward and backward to the latent: ours against per-sample weights.

    python -m experiments.synthesis_benchmark [--sizes 128 256 1024] [--threads 1] [--repeats 3]

prints a Markdown table. Weights are random: the time does not depend on them. Every case runs in a process of
its own, so that its peak memory is its own: "MB" is what the process held at most beyond the loaded network.
Seconds are the best of the repeats, which other work on the machine disturbs least.

With --keep-memory the C library (glibc) keeps freed memory instead of returning it to the system. Where page
faults are dear, as in a virtual machine, much of the time of large images goes into faulting memory in again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.networks.stylegan2 import SynthesisNetwork, draw_weights
from experiments.plain_stylegan2 import synthesize

IMPLEMENTATIONS = ("ours", "plain")
W_DIM = 512
# Never use mmap, never give memory back: freed tensors are then reused without page faults.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
SMALL_CHANNELS = {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16}


@dataclass(frozen=True)
class Size:
    """Images of `resolution` px in batches of `batch`, with these feature channels per resolution."""

    batch: int
    channels: dict[int, int]


def public_channels(resolution: int) -> dict[int, int]:
    """The channels of the public configuration: 32768 / resolution, at most 512."""
    return {2**i: min(32768 // 2**i, 512) for i in range(2, resolution.bit_length())}


SIZES = {
    128: Size(8, SMALL_CHANNELS),
    256: Size(2, public_channels(256)),
    1024: Size(1, public_channels(1024)),
}


@dataclass(frozen=True)
class Measurement:
    """Least seconds of a forward and backward pass, and peak memory in bytes beyond the loaded network."""

    seconds: float
    memory: int


def peak_memory() -> int:
    """The most memory this process has held, in bytes (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure(implementation: str, resolution: int, repeats: int) -> Measurement:
    """Run one case in this process: one pass to warm up, then the best of `repeats`."""
    size = SIZES[resolution]
    generator = torch.Generator().manual_seed(0)
    network = SynthesisNetwork(W_DIM, resolution, channels=size.channels).eval().requires_grad_(False)
    draw_weights(network, generator)
    render: Callable[[Tensor], Tensor] = network
    if implementation == "plain":
        render = lambda ws: synthesize(network, ws)  # noqa: E731
    ws = torch.randn(size.batch, network.num_ws, W_DIM, generator=generator).requires_grad_()
    loaded = peak_memory()
    times = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        torch.autograd.grad(render(ws).square().sum(), ws)
        times.append(time.perf_counter() - start)
    return Measurement(min(times[1:]), peak_memory() - loaded)


def measure_apart(
    implementation: str, resolution: int, *, threads: int, repeats: int, keep_memory: bool
) -> Measurement:
    """Run `measure` in a new process. Raises CalledProcessError where it fails."""
    case = ["--case", implementation, "--sizes", str(resolution)]
    options = ["--threads", str(threads), "--repeats", str(repeats)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)} | (KEEP_MEMORY if keep_memory else {})
    command = [sys.executable, "-m", "experiments.synthesis_benchmark", *case, *options]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return Measurement(**json.loads(done.stdout))


def table(sizes: list[int], *, threads: int, repeats: int, keep_memory: bool) -> list[str]:
    """The lines of the Markdown table."""
    lines = [
        "| resolution | batch | ours, s | plain, s | plain / ours | ours, MB | plain, MB |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for resolution in sizes:
        ours, plain = (
            measure_apart(name, resolution, threads=threads, repeats=repeats, keep_memory=keep_memory)
            for name in IMPLEMENTATIONS
        )
        lines.append(
            f"| {resolution} | {SIZES[resolution].batch} | {ours.seconds:.3f} | {plain.seconds:.3f} "
            f"| {plain.seconds / ours.seconds:.2f} | {ours.memory / 1e6:.0f} | {plain.memory / 1e6:.0f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", choices=sorted(SIZES), default=sorted(SIZES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep-memory", action="store_true", help="let glibc keep freed memory")
    parser.add_argument("--case", choices=IMPLEMENTATIONS, help="measure one implementation here, print JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.case is None:
        lines = table(
            options.sizes,
            threads=options.threads,
            repeats=options.repeats,
            keep_memory=options.keep_memory,
        )
        print("\n".join(lines))
        return
    found = measure(options.case, options.sizes[0], options.repeats)
    print(json.dumps({"seconds": found.seconds, "memory": found.memory}))


if __name__ == "__main__":
    main()

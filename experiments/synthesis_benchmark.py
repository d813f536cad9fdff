"""Time StyleGAN2 synthesis forward and backward to the latent: ours against per-sample weights.

    python -m experiments.synthesis_benchmark [--cases 128x8 256x2 1024x1] [--threads 1] [--repeats 3]

prints a Markdown table; a case is pixels x batch. Weights are random: the time does not depend on them. Both
implementations have the same weights and latents and run in turns, each in a process of its own, so that other work on
the machine disturbs both alike and peak memory is each one's own: "MB" is what the process held at most beyond the
loaded network. "s" are processor seconds, those of all threads added, the least of the repeats: unlike the clock
on the wall they do not count the time in which other programs had the processor.

As in the studio, the C library (glibc) keeps freed memory for the next tensor; with --return-memory it gives it back
to the system, which makes both slower.

Measured on one thread of an AMD EPYC with AVX-512, torch 2.14, other work on its cores:

    | resolution | batch | ours, s | plain, s | plain / ours | ours, MB | plain, MB |
    |---:|---:|---:|---:|---:|---:|---:|
    | 128 | 8 | 0.113 | 0.298 | 2.64 | 135 | 280 |
    | 256 | 2 | 2.181 | 3.925 | 1.80 | 939 | 1990 |
    | 1024 | 1 | 2.405 | 4.178 | 1.74 | 1850 | 3120 |

The convolutions, forward and by the input, take about 1.8 s of the 2.2 at 256 px and run near the processor's peak;
the plain way adds the gradients of its per-sample weights to them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.networks.stylegan2 import SynthesisNetwork, draw_weights
from engine.system.runtime import keep_freed_memory
from experiments import options
from experiments.memory import count_peak_anew, peak_memory
from experiments.plain_stylegan2 import synthesize

IMPLEMENTATIONS = ("ours", "plain")
W_DIM = 512
SMALL_CHANNELS = {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16}  # those of the bundled generator
DEFAULT_CASES = ("128x8", "256x2", "1024x1")


@dataclass(frozen=True)
class Case:
    """Images of `resolution` px in batches of `batch`."""

    resolution: int
    batch: int

    @property
    def channels(self) -> dict[int, int]:
        """The bundled generator's up to 128 px, else those of the public models: 32768 / resolution, at most 512."""
        if self.resolution <= max(SMALL_CHANNELS):
            return {size: width for size, width in SMALL_CHANNELS.items() if size <= self.resolution}
        return {2**i: min(32768 // 2**i, 512) for i in range(2, self.resolution.bit_length())}


def parse_case(text: str) -> Case:
    """`256x2` -> Case(256, 2). Raises ValueError."""
    resolution, _, batch = text.partition("x")
    return Case(int(resolution), int(batch))


def work(implementation: str, case: Case) -> Callable[[], None]:
    """One forward and backward pass, to be called again and again."""
    generator = torch.Generator().manual_seed(0)
    network = SynthesisNetwork(W_DIM, case.resolution, channels=case.channels).eval().requires_grad_(False)
    draw_weights(network, generator)
    ws = torch.randn(case.batch, network.num_ws, W_DIM, generator=generator).requires_grad_()

    def render() -> Tensor:
        return network(ws) if implementation == "ours" else synthesize(network, ws)

    def once() -> None:
        torch.autograd.grad(render().square().sum(), ws)

    return once


def serve(implementation: str, case: Case) -> None:
    """The process of one implementation: for every line of stdin one pass, its seconds and the peak as JSON."""
    once = work(implementation, case)
    loaded = count_peak_anew()
    for _ in sys.stdin:
        start = time.process_time()
        once()
        print(json.dumps([time.process_time() - start, peak_memory() - loaded]), flush=True)


def measure(case: Case, *, threads: int, repeats: int, return_memory: bool) -> dict[str, tuple[float, float]]:
    """{implementation: (seconds, bytes)}, by turns; a first pass to warm up is not counted in the seconds."""
    command = [sys.executable, "-m", "experiments.synthesis_benchmark", "--threads", str(threads)]
    command += ["--return-memory"] if return_memory else []
    command += ["--cases", f"{case.resolution}x{case.batch}", "--serve"]
    servers = {
        name: subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in IMPLEMENTATIONS
    }
    rounds = [{name: ask(server) for name, server in servers.items()} for _ in range(1 + repeats)]
    for server in servers.values():
        server.communicate()
    return {name: (min(r[name][0] for r in rounds[1:]), rounds[-1][name][1]) for name in IMPLEMENTATIONS}


def ask(server: subprocess.Popen[str]) -> tuple[float, float]:
    """One pass: seconds and peak bytes. Raises RuntimeError where the process ended."""
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write("\n")
    server.stdin.flush()
    answer = server.stdout.readline()
    if not answer:
        raise RuntimeError(f"a measuring process ended with code {server.wait()}")
    seconds, peak = json.loads(answer)
    return seconds, peak


def row(case: Case, *, threads: int, repeats: int, return_memory: bool) -> str:
    """One line of the Markdown table."""
    found = measure(case, threads=threads, repeats=repeats, return_memory=return_memory)
    (ours, our_peak), (plain, plain_peak) = found["ours"], found["plain"]
    return (
        f"| {case.resolution} | {case.batch} | {ours:.3f} | {plain:.3f} | {plain / ours:.2f} "
        f"| {our_peak / 1e6:.0f} | {plain_peak / 1e6:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=parse_case, nargs="+", default=[parse_case(case) for case in DEFAULT_CASES])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--return-memory", action="store_true", help="let the C library give freed memory back")
    parser.add_argument("--serve", choices=IMPLEMENTATIONS, help=argparse.SUPPRESS)
    chosen = options.parse(parser, {"cases": [Case(64, 1)], "repeats": 1})
    torch.set_num_threads(chosen.threads)
    if chosen.serve:
        if not chosen.return_memory:
            keep_freed_memory()
        serve(chosen.serve, chosen.cases[0])
        return
    print("| resolution | batch | ours, s | plain, s | plain / ours | ours, MB | plain, MB |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for case in chosen.cases:
        line = row(case, threads=chosen.threads, repeats=chosen.repeats, return_memory=chosen.return_memory)
        print(line, flush=True)


if __name__ == "__main__":
    main()

"""Where the time of a step goes, and how much a plain implementation would take.

    python -m experiments.step_benchmark [--n 1 8 64] [--threads 1] [--repeats 5]

prints two Markdown tables for avatars and clip-mini. The first: generator and prompt model, forward and backward,
kernel and solve, a step in the middle of a run without repulsion and with it, the share of the processor's measured
matrix-multiply peak, and the ratio to a plain step: per-sample convolution weights, and a generator pass of its own for
each of A and C (with backward) and the preview.
The second: peak memory of a step, whole and in chunks, each in a process of its own. Seconds are medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import engine
from engine.inference.flow import Particles, Problem, Step
from engine.inference.terms import Batch, Repulsion
from engine.networks.stylegan2 import Generator
from engine.settings import FlowSettings
from experiments import options
from experiments.memory import count_peak_anew, peak_memory
from experiments.plain_stylegan2 import synthesize

CHUNKS = (None, 8)
QUICK = {"n": [2], "repeats": 1}


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median time of `work`, one call to warm up not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matrix_peak(repeats: int) -> float:
    """Floating-point operations per second of a 1024 x 1024 float32 matrix product."""
    a = torch.randn(1024, 1024)
    return 2 * 1024**3 / median_seconds(lambda: a @ a, 4 * repeats)


def problem_of(n: int) -> tuple[Problem, Particles, Generator]:
    """The problem that the table is about."""
    model = engine.load_generator("avatars")
    assert isinstance(model.network, Generator)
    settings = engine.GenerateSettings("a woman with pink hair and sunglasses", n=n, seed=1)
    task = engine.generate(settings, model, engine.load_prompt_model("clip-mini"))
    return task.problem, task.particles, model.network


def one_step(problem: Problem, particles: Particles, settings: FlowSettings) -> Step:
    """What follows a backward pass, the move and a forward pass: a step in the middle of a run, and its seconds."""
    steps = engine.refine(problem, particles, replace(settings, steps=particles.step + 2))
    next(steps)
    return next(steps)


def step_seconds(problem: Problem, particles: Particles, settings: FlowSettings, repeats: int) -> float:
    """Median of a step in the middle of a run, one to warm up not counted."""
    seconds = [one_step(problem, particles, settings).seconds for _ in range(repeats + 1)]
    return statistics.median(seconds[1:])


def plain_step(problem: Problem, particles: Particles, network: Generator) -> None:
    """Repulsion, condition and preview, each with a generator pass of its own."""

    def render(latents: Tensor) -> Tensor:
        w = problem.space.decode(latents)
        return synthesize(network.synthesis, w[:, None].expand(-1, network.num_ws, -1))

    condition, _ = problem.conditions[0]
    for term in (Repulsion(problem.extractor), condition) if len(particles) > 1 else (condition,):
        latents = particles.latents.detach().requires_grad_()
        images = render(latents)
        batch = Batch(latents, images)
        (cotangent,), _ = batch.gradients([term.log_value(batch)])
        torch.autograd.grad(images, latents, cotangent)
    with torch.no_grad():
        render(particles.latents)


def row(n: int, repeats: int, peak: float) -> str:
    """One line of the first table."""
    problem, particles, network = problem_of(n)
    latents = particles.latents.clone().requires_grad_()
    settings = engine.PRESETS["robust"]

    def forward() -> Tensor:
        with torch.no_grad():
            return problem.render(particles.latents)

    images = forward().requires_grad_()

    def both(function: Callable[[Tensor], Tensor], inputs: Tensor) -> float:
        return median_seconds(lambda: torch.autograd.grad(function(inputs).sum(), inputs), repeats)

    batch = Batch(particles.latents, images.detach())
    batch.features(problem.extractor)
    repulsion = Repulsion(problem.extractor)
    seconds = {
        "forward": median_seconds(forward, repeats),
        "generator": both(problem.render, latents),
        "clip": both(problem.extractor, images),
        "kernel": median_seconds(lambda: repulsion.log_value(batch), repeats) if n > 1 else 0.0,
        "alone": step_seconds(problem, particles, replace(settings, diversity=0.0), repeats),
        "step": step_seconds(problem, particles, settings, repeats),
        "plain": median_seconds(lambda: plain_step(problem, particles, network), repeats),
    }
    steps = engine.refine(problem, particles, replace(settings, steps=2))
    next(steps)
    with FlopCounterMode(display=False) as counter:
        next(steps)
    share = counter.get_total_flops() / seconds["step"] / peak
    columns = " | ".join(f"{1000 * value:.1f}" for value in seconds.values())
    return f"| {n} | {columns} | {seconds['plain'] / seconds['step']:.2f} | {100 * share:.0f} % |"


def memory_row(n: int, threads: int) -> str:
    """One line of the second table."""
    found = []
    for chunk in CHUNKS:
        command = [sys.executable, "-m", "experiments.step_benchmark", "--threads", str(threads)]
        command += ["--memory", json.dumps([n, chunk])]
        found.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    return f"| {n} | {' | '.join(found)} |"


def step_memory(n: int, chunk: int | None) -> str:
    """MB that one step adds at most to what this process holds (Linux)."""
    problem, particles, _ = problem_of(n)
    before = count_peak_anew()  # loading the models took more
    one_step(problem, particles, replace(engine.PRESETS["robust"], chunk=chunk))
    return f"{(peak_memory() - before) / 1e6:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = options.parse(parser, QUICK)
    threads = engine.set_threads(arguments.threads)
    if arguments.memory:
        print(step_memory(*json.loads(arguments.memory)))
        return
    peak = matrix_peak(arguments.repeats)
    print(f"{threads} thread(s), matrix-multiply peak {peak / 1e9:.0f} GFLOP/s, times in ms\n")
    names = "forward | generator, both | CLIP, both | kernel, solve | without repulsion | step | plain | plain / step"
    print(f"| n | {names} | of peak |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for n in arguments.n:
        print(row(n, arguments.repeats, peak), flush=True)
    print("\n| n | peak MB, whole | in chunks of 8 |\n|---|---|---|")
    for n in arguments.n:
        print(memory_row(n, threads), flush=True)


if __name__ == "__main__":
    main()

"""Measure what many particles cost: memory, the kernel's system of equations, and what a second process gains (Linux).

    python -m experiments.crowd_benchmark [--model avatars] [--n 1024] [--anchors 4096] [--processes 2]

prints three Markdown tables. Each run has a process, or several, of its own with one thread each; a step's time is the
median after the first. Memory is the most that a process has held, models and libraries included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from statistics import median

import torch

import engine
from engine.commands import several
from engine.inference import density, kernels
from engine.latents.spaces import seeded
from engine.settings import CrowdSettings, GenerateSettings
from experiments import options
from experiments.memory import peak_memory

PROMPT = "a woman with pink hair"
FEW = 8
FEATURES = 512
STARTER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


def measure(model: str, n: int, count: int) -> dict[str, float]:
    """Seconds of a step and the memory of this process, one of those that share the work."""
    engine.set_threads(1)
    generator, prompt_model = engine.load_generator(model), engine.load_prompt_model("clip-mini")
    settings = CrowdSettings.of(GenerateSettings(PROMPT, model=model, seed=1), n)
    steps = engine.generate(settings, generator, prompt_model).steps()
    next(steps)
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        next(steps)
        seconds.append(time.perf_counter() - began)
    steps.close()
    return {"seconds": median(seconds), "peak": peak_memory()}


def run(model: str, n: int, steps: int, count: int = 1) -> dict[str, float]:
    """Figures of a run by so many processes, as the first of them has them."""
    own = ["experiments.crowd_benchmark", "--model", model, "--n", str(n), "--steps", str(steps), "--one"]
    starter = [sys.executable, "-m", *own] if count == 1 else [*STARTER, str(count), "-m", "--", *own]
    done = subprocess.run(
        starter, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def solved(anchors: int) -> tuple[float, float, float]:
    """Seconds of elimination and of what `density.solve` does, and the largest relative difference of their alphas."""
    features = torch.randn(anchors, FEATURES, generator=seeded("crowd")).double()
    squares = kernels.squared_distances(features, features)
    kernel = (-squares / kernels.nearest_bandwidth(squares)).exp()
    matrix = kernel + density.positive_eta(kernel) * torch.eye(anchors).double()
    right = torch.ones(anchors).double()
    began = time.perf_counter()
    exact = torch.linalg.solve(matrix, right)
    between = time.perf_counter()
    found = density.solve(matrix, right)
    ended = time.perf_counter()
    return between - began, ended - between, float(((found - exact) / exact).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="avatars")
    parser.add_argument("--n", type=int, default=1024, help="particles of a crowd")
    parser.add_argument("--steps", type=int, default=3, help="that are timed")
    parser.add_argument("--anchors", type=int, default=4096, help="of the kernel's system")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse(parser, {"n": 66, "steps": 1, "anchors": 600})
    if chosen.one:
        with several.together():  # of which the first one is heard
            print(json.dumps(measure(chosen.model, chosen.n, chosen.steps)), flush=True)
        return
    few, many = (run(chosen.model, n, chosen.steps) for n in (FEW, chosen.n))
    print("| n | seconds a step | of one particle, ms | memory, MB | ratio |\n|---:|---:|---:|---:|---:|")
    for n, found in ((FEW, few), (chosen.n, many)):
        each, ratio = 1000 * found["seconds"] / n, found["peak"] / few["peak"]
        print(f"| {n:,} | {found['seconds']:.2f} | {each:.0f} | {found['peak'] / 1e6:.0f} | {ratio:.2f} |", flush=True)
    shared = run(chosen.model, chosen.n, chosen.steps, chosen.processes)
    gain = many["seconds"] / shared["seconds"]
    print("\n| processes | seconds a step | times as fast | efficiency |\n|---:|---:|---:|---:|")
    print(f"| 1 | {many['seconds']:.2f} | 1.00 | 1.00 |")
    print(f"| {chosen.processes} | {shared['seconds']:.2f} | {gain:.2f} | {gain / chosen.processes:.2f} |", flush=True)
    dense, ours, error = solved(chosen.anchors)
    print(
        "\n| anchors | elimination, s | ours, s | times as fast | largest relative error |\n|---:|---:|---:|---:|---:|"
    )
    print(f"| {chosen.anchors:,} | {dense:.2f} | {ours:.3f} | {dense / ours:.0f} | {error:.0e} |")


if __name__ == "__main__":
    main()

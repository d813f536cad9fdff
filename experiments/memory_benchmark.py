"""Measure the memory that a step of a run takes beyond the loaded models, for 1, 2, ... pictures (Linux).

    python -m experiments.memory_benchmark MODEL [MODEL ...] [--n 1 2]

prints a Markdown table; MODEL is a name or a file, as in `python -m engine generate --model`. Each case runs in a
process of its own, so that peaks are each one's own. A step is one forward and one backward pass with the bundled
prompt model and, where the model has one, its discriminator. `engine.models.memory` tells the page what to expect.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import engine
from experiments import options
from experiments.memory import count_peak_anew, peak_memory

PROMPT = "a picture of something"


def measure(model: str, n: int) -> dict[str, float]:
    """One case, in this process."""
    from engine.models.pool import bytes_of

    engine.set_threads()
    generator, prompt_model = engine.load_generator(model), engine.load_prompt_model("clip-mini")
    settings = engine.GenerateSettings(PROMPT, n=n, seed=1, classes=("0",) if generator.classes else ())
    task = engine.generate(settings, generator, prompt_model)
    before = count_peak_anew()
    next(task.steps())
    return {"pixels": generator.resolution, "weights": bytes_of(generator), "peak": peak_memory() - before}


def row(model: str, n: int) -> str:
    """One case, in a process of its own."""
    arguments = [sys.executable, "-m", "experiments.memory_benchmark", model, "--n", str(n), "--one"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    weights, peak = found["weights"] / 1e6, found["peak"] / 1e6
    return f"| {model.rpartition('/')[2]} | {found['pixels']} | {weights:.0f} | {n} | {peak:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--n", nargs="+", type=int, default=[1, 2], help="how many pictures")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse(parser, {"n": [1]})
    if chosen.one:
        print(json.dumps(measure(chosen.models[0], chosen.n[0])))
        return
    print("| model | pixels | weights, MB | n | beyond them, MB |\n|---|---:|---:|---:|---:|")
    for model in chosen.models:
        for n in chosen.n:
            print(row(model, n), flush=True)


if __name__ == "__main__":
    main()

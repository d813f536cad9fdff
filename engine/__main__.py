"""The command line: `python -m engine generate "PROMPT" --out DIR` and `python -m engine models`.

Exit codes: 0 done; 2 something a person can put right, said on stderr; 130 interrupted. The same command
gives the same pictures byte for byte; of run.json only `seconds_per_step` differs.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import ModelError, SaveError
from engine.model_table import PUBLIC_PREFIX, list_models
from engine.settings import PRESETS, GenerateSettings, SettingsError
from engine.version import VERSION

if TYPE_CHECKING:
    from engine.flow import Step
    from engine.models import GeneratorModel, PromptModel

BAR_WIDTH = 30
FLOW_OPTIONS = ("steps", "step_size", "diversity")  # not given: the preset's


class RunError(RuntimeError):
    """A run that ended early; the message says why and what was kept."""


class Models(NamedTuple):
    """The two loaded models of a run."""

    generator: "GeneratorModel"
    prompt_model: "PromptModel"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except KeyboardInterrupt:
        print("\nInterrupted. Pictures that were already written are kept.", file=sys.stderr)
        return 130
    except (SettingsError, ModelError, SaveError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine", description="Different pictures for one prompt."
    )
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(title="commands", required=True)
    _add_generate(commands.add_parser("generate", help="write pictures for a prompt into a folder"))
    models = commands.add_parser("models", help="list what can be loaded")
    models.set_defaults(command=_models)
    return parser


def _add_generate(parser: argparse.ArgumentParser) -> None:
    default = GenerateSettings(prompt="-")
    parser.set_defaults(command=_generate)
    parser.add_argument("prompt", help="what the pictures should show")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures and run.json")
    parser.add_argument("--model", default=default.model, help="generator: a name or a file (%(default)s)")
    parser.add_argument(
        "--prompt-model",
        default=default.prompt_model,
        help=f"a name, a file, or {PUBLIC_PREFIX}ARCHITECTURE/TAG (%(default)s)",
    )
    parser.add_argument("--n", type=int, default=default.n, help="how many pictures (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=default.seed, help="picture i grows from seed + i (%(default)s)"
    )
    parser.add_argument("--preset", default=default.preset, help=f"{', '.join(PRESETS)} (%(default)s)")
    parser.add_argument("--steps", type=int, help="steps of the flow (the preset's)")
    parser.add_argument("--step-size", type=float, help="length of a step (the preset's)")
    parser.add_argument("--diversity", type=float, help="strength of the repulsion (the preset's)")
    parser.add_argument("--truncation", type=float, default=default.truncation_psi, help="psi (%(default)s)")
    parser.add_argument("--space", help="latent space: z, w, w+ (the model's)")
    parser.add_argument("--baseline", action="store_true", help="also the same seeds without repulsion")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: the GPU where there is one (%(default)s)")
    parser.add_argument("--threads", type=int, help="processor threads (all cores but one)")


def _settings(options: argparse.Namespace) -> GenerateSettings:
    """What the options ask for. Raises SettingsError."""
    settings = GenerateSettings(
        prompt=options.prompt,
        model=options.model,
        prompt_model=options.prompt_model,
        n=options.n,
        seed=options.seed,
        space=options.space,
        truncation_psi=options.truncation,
        baseline=options.baseline,
    )
    settings = settings.with_preset(options.preset)
    chosen = {name: getattr(options, name) for name in FLOW_OPTIONS if getattr(options, name) is not None}
    return replace(settings, flow=replace(settings.flow, **chosen))


def _generate(options: argparse.Namespace) -> None:
    settings = _settings(options)  # wrong options are said before torch is imported
    from engine import imaging, runtime, tasks
    from engine.models import load_generator, load_prompt_model

    imaging.make_folder(options.out)
    runtime.set_threads(options.threads)
    device = runtime.check_device(options.device)
    models = Models(load_generator(settings.model, device), load_prompt_model(settings.prompt_model, device))
    if cut := models.prompt_model.truncated_words(settings.prompt):
        print(
            f"note: the prompt is longer than {settings.prompt_model} reads; left out: {cut}", file=sys.stderr
        )
    last, seconds = _refine(settings, models, options.out, "ours")
    report: dict[str, Any] = {
        "version": VERSION,
        "settings": settings.to_dict(),
        "models": _hashes(settings, models),
        "seconds_per_step": seconds / settings.flow.steps,
        "ours": _scores(last),
    }
    if settings.baseline:
        last, _ = _refine(tasks.baseline(settings), models, options.out / "baseline", "baseline")
        report["baseline"] = _scores(last)
    imaging.save_file(
        options.out / "run.json", json.dumps(report, indent=2, allow_nan=False).encode() + b"\n"
    )


def _refine(settings: GenerateSettings, models: Models, folder: Path, label: str) -> tuple["Step", float]:
    """Runs the flow and writes its pictures into `folder`; returns the last step and the seconds it took.

    Raises RunError for a run that diverged, after writing the pictures of its last good step.
    """
    from engine import flow, tasks

    problem, particles = tasks.generate(settings, *models)
    started = time.perf_counter()
    try:
        for step in flow.refine(problem, particles, settings.flow):
            _show_progress(label, step, time.perf_counter() - started)
            last = step
    except flow.DivergenceError as error:
        print(file=sys.stderr)  # ends the progress bar's line
        if error.last_good is None:
            raise RunError(str(error)) from error
        _save_pictures(folder, settings, models, error.last_good)
        raise RunError(f"{error} The pictures of step {error.last_good.step} are in {folder}.") from error
    seconds = time.perf_counter() - started
    _save_pictures(folder, settings, models, last)
    return last, seconds


def _save_pictures(folder: Path, settings: GenerateSettings, models: Models, step: "Step") -> None:
    from engine import imaging

    for index, image in enumerate(imaging.to_uint8(step.images)):
        metadata = imaging.picture_metadata(
            settings=settings.to_dict(),
            seeds=step.particles.seeds,
            index=index,
            models=_hashes(settings, models),
        )
        imaging.save_png(folder / f"{index:02d}.png", image, metadata)


def _hashes(settings: GenerateSettings, models: Models) -> Mapping[str, str]:
    return {settings.model: models.generator.sha256, settings.prompt_model: models.prompt_model.sha256}


def _scores(step: "Step") -> dict[str, Any]:
    assert step.text_scores is not None  # the Generate task always has a text
    return {"text_scores": step.text_scores.tolist(), "diversity": step.diversity}


def _show_progress(label: str, step: "Step", seconds: float) -> None:
    share = step.step / step.total
    bar = ("#" * round(BAR_WIDTH * share)).ljust(BAR_WIDTH, ".")
    left = f"{seconds / share - seconds:.0f} s left" if step.step else ""
    end = "\n" if step.step == step.total else ""
    print(f"\r{label:<8} [{bar}] {step.step}/{step.total} {left:<12}", end=end, file=sys.stderr, flush=True)


def _models(options: argparse.Namespace) -> None:
    lines = [("name", "kind", "family", "pixels", "MB", "licence")]
    for row in list_models():
        lines.append(
            (row.name, row.kind, row.family, str(row.resolution), f"{row.size / 1e6:.1f}", row.licence)
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(
        f"\nPrompt models also: {PUBLIC_PREFIX}ARCHITECTURE/TAG (any model open_clip knows), or a checkpoint"
    )
    print("file beside its open_clip_config.json. Generators also: a StyleGAN2 .safetensors file.")


if __name__ == "__main__":
    sys.exit(main())

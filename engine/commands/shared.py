"""What the commands share: model options, progress on stderr, a run that is carried out, and its report."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from engine.commands import output
from engine.commands.progress import show_bar
from engine.commands.video import Camera, add_video_options
from engine.models.table import PUBLIC_PREFIX
from engine.settings import (
    LIMITS,
    OF_THE_MODEL,
    PRESETS,
    RANDOM_SEED,
    SCALES,
    EditSettings,
    GenerateSettings,
    RunSettings,
    SettingsError,
    random_seed,
)
from engine.version import VERSION

if TYPE_CHECKING:
    from engine.inference.flow import Step
    from engine.models.loading import GeneratorModel, PromptModel
    from engine.pictures.examples import Examples
    from engine.tasks import Task

SAVED_TOGETHER = 32  # pictures that one process writes in a row

WithTowards = TypeVar("WithTowards", GenerateSettings, EditSettings)


class Interrupted(KeyboardInterrupt):
    """A person ended a run that had pictures; the message says where they are."""


class RunError(RuntimeError):
    """A run that ended early; the message says why and what was kept."""


class Models(NamedTuple):
    """The two loaded models of a run."""

    generator: "GeneratorModel"
    prompt_model: "PromptModel"


def add_model_options(parser: argparse.ArgumentParser, *, prompt_model: str | None = RunSettings.prompt_model) -> None:
    """Which models, on what device. prompt_model: the default; None where the generator has one."""
    parser.add_argument("--model", default=RunSettings.model, help="generator: a name or a file (%(default)s)")
    parser.add_argument(
        "--prompt-model",
        default=prompt_model,
        help=f"a name, a file, or {PUBLIC_PREFIX}ARCHITECTURE/TAG ({prompt_model or 'that of the model'})",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: the GPU where there is one (%(default)s)")
    parser.add_argument("--threads", type=int, help="processor threads (all cores but one)")


def add_run_options(
    parser: argparse.ArgumentParser,
    *,
    video: bool = True,
    most: int = int(LIMITS["n"][1]),
    presets: Collection[str] = tuple(PRESETS),
) -> None:
    """How many pictures, from which seed, where to, by which numbers; the numbers not given are the preset's.

    video: whether the command can film its run. most: pictures. presets: those that its task has.
    """
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures and run.json")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the run that the folder holds (else this one gets a new name)"
    )
    parser.add_argument("--n", type=int, default=RunSettings.n, help=f"how many pictures (%(default)s; up to {most:,})")
    parser.add_argument(
        "--seed", type=_seed, default=RunSettings.seed, help="picture i is of seed + i; -1: a random one (%(default)s)"
    )
    parser.add_argument("--preset", default=RunSettings.preset, help=f"{', '.join(presets)} (%(default)s)")
    parser.add_argument(
        "--scale", type=int, choices=SCALES, default=1, help="save the pictures so many times as large (%(default)s)"
    )
    parser.add_argument("--steps", type=int, help="steps of the flow (the preset's)")
    parser.add_argument("--step-size", type=float, help="length of a step (the preset's)")
    parser.add_argument("--diversity", type=float, help="strength of the repulsion (the preset's)")
    if video:
        add_video_options(parser)
    add_quick(parser)


def _seed(text: str) -> int:
    """A seed; a random one, which is said, for -1 or nothing."""
    if text.strip() not in ("", str(RANDOM_SEED)):
        return int(text)
    seed = random_seed()
    print(f"note: --seed {seed} was drawn.", file=sys.stderr)
    return seed


def add_quick(parser: argparse.ArgumentParser) -> None:
    """--quick, see `quicken`."""
    parser.add_argument("--quick", action="store_true", help="a few steps, two pictures: shows that the command works")


def quicken(options: argparse.Namespace) -> None:
    """What --quick does, whatever else the options ask for. Not every command has all of them."""
    counts = {"n": 2, "steps": 2, "stage1": None, "stage2": None, "candidates": 1, "inversion_steps": 2}
    vars(options).update({name: count for name, count in counts.items() if name in options})


def add_towards_options(parser: argparse.ArgumentParser) -> None:
    """Real examples that the pictures go towards."""
    parser.add_argument(
        "--towards",
        metavar="FOLDER",
        help=f"a folder of pictures that the results should resemble, or {OF_THE_MODEL}: those the model comes with",
    )
    parser.add_argument("--towards-weight", type=float, help="how much that counts beside the words (1)")


def read_towards(options: argparse.Namespace) -> "Examples | None":
    """The pictures of --towards FOLDER, where a folder is given. Raises PictureError, and SettingsError.

    Without words there is something to go towards anyway: what the model comes with.
    """
    is_aimless = options.towards is None and not getattr(options, "like", None)
    if is_aimless and options.towards_weight is not None and options.prompt.strip():
        raise SettingsError("towards_weight: give --towards too: what the pictures should resemble.")
    if options.towards in (None, OF_THE_MODEL):
        return None
    from engine.pictures.examples import read_example_folder

    return read_example_folder(Path(options.towards))


def read_shown(paths: Sequence[Path] | None) -> "Examples | None":
    """The pictures of --like or --unlike: files, and those of folders. Raises PictureError."""
    if not paths:
        return None
    from engine.pictures.examples import read_example_files

    return read_example_files(paths)


def with_towards(settings: WithTowards, options: argparse.Namespace, examples: "Examples | None") -> WithTowards:
    """The settings with what --towards and --towards-weight name. Raises SettingsError."""
    flow = settings.flow
    if options.towards_weight is not None:
        try:
            flow = replace(flow, data_weight=options.towards_weight)
        except SettingsError as error:
            raise SettingsError(str(error).replace("data_weight", "towards_weight")) from error
    return replace(settings, flow=flow, towards=examples.sha256 if examples else options.towards or "")


def load_models(options: argparse.Namespace) -> Models:
    """The models of the options, threads and device set. Raises ModelError and SettingsError."""
    from engine.models.loading import load_generator, load_prompt_model
    from engine.system import runtime

    runtime.set_threads(options.threads)
    device = runtime.check_device(options.device)
    return Models(load_generator(options.model, device), load_prompt_model(options.prompt_model, device))


def hashes(settings: RunSettings, models: Models) -> Mapping[str, str]:
    """The sha256 of each model's file by name."""
    found = {settings.model: models.generator.sha256, settings.prompt_model: models.prompt_model.sha256}
    reward = reward_of(settings, models)
    return found if reward is None else {**found, reward.name: reward.sha256}


def reward_of(settings: RunSettings, models: Models) -> "PromptModel | None":
    """The second prompt model that settings name, on the device of the first. Raises ModelError."""
    named = settings.reward_model if isinstance(settings, GenerateSettings) and settings.prompt else ""
    return _loaded_reward(named, str(models.prompt_model.mean.device)) if named else None


@lru_cache(maxsize=1)
def _loaded_reward(name: str, device: str) -> "PromptModel":
    from engine.models.loading import load_prompt_model

    return load_prompt_model(name, device)


def warn_of_cut_words(text: str, models: Models) -> None:
    """Says on stderr what of a text the prompt model, and a generator that is told it, do not read."""
    if cut := models.prompt_model.truncated_words(text):
        name = models.prompt_model.name
        print(f"note: the prompt is longer than {name} reads; left out: {cut}", file=sys.stderr)
    generator = models.generator
    if generator.left_out is not None and (cut := generator.left_out(text)):
        print(
            f"note: the prompt is longer than the text encoder of {generator.name} reads; left out: {cut}. Say what "
            "matters most first.",
            file=sys.stderr,
        )


def warn_of_doubts(text: str, models: Models) -> None:
    """Says on stderr what of a text the models do not know."""
    from engine.models.domain import doubt

    if found := doubt(text, *models):
        print(f"note: {found.text}", file=sys.stderr)


def carry_out(
    steps: "Iterator[Step]", label: str, folder: Path, save: "Callable[[Step], None]"
) -> "tuple[Step, float]":
    """Takes the steps, then saves the last one; returns it and the seconds all took.

    Raises RunError for a run that diverged, after its last good step was saved, or that has no steps; Interrupted,
    after the last step was saved.
    """
    from engine.inference.flow import DivergenceError

    started = time.perf_counter()
    last: Step | None = None
    try:
        for step in steps:
            last = step
            show_bar(label, step.step, step.total, time.perf_counter() - started)
    except DivergenceError as error:
        print(file=sys.stderr)  # ends the progress bar's line
        if error.last_good is None:
            raise RunError(str(error)) from error
        save(error.last_good)
        raise RunError(f"{error} The pictures of step {error.last_good.step} are in {folder}.") from error
    except KeyboardInterrupt as error:
        print(file=sys.stderr)
        if last is None:
            raise
        save(last)
        raise Interrupted(f"The pictures of step {last.step} of {last.total} are in {folder}.") from error
    if last is None:
        raise RunError("The run has no steps left to make.")
    seconds = time.perf_counter() - started
    save(last)
    return last, seconds


def run_tasks(
    tasks: "Mapping[str, Task]",
    models: Models,
    folder: Path,
    *,
    scale: int = 1,
    extra: Mapping[str, Any] | None = None,
    camera: Camera | None = None,
    **parts: Any,
) -> None:
    """Carries out every side, "ours" into the folder itself, and writes run.json, which has the seconds of ours.

    scale: how many times as large the pictures are saved, where they can be. extra: what they carry besides; camera:
    makes a video of the whole run; parts: what else run.json says. Raises as `carry_out`, and SaveError.
    """
    from engine.pictures import png_files
    from engine.system import processes

    if told := png_files.left_out_of(_metadata(tasks["ours"], models, extra, (0,), 0)):
        print(f"note: {told}", file=sys.stderr)
    ours, seconds_per_step, is_saved = tasks["ours"].settings, 0.0, False

    def save(place: Path, task: "Task", step: "Step") -> None:
        nonlocal is_saved
        if not is_saved:
            processes.agreed(lambda: output.clear_run(folder))  # not before there is something else to keep
            is_saved = True
        _save(place, task, models, extra, step, scale)

    for side, task in tasks.items():
        place = folder if side == "ours" else folder / side
        progress: dict[str, list[float]] = {}
        try:
            steps = _noted(task, progress)
            steps = camera.watching(side, task, steps) if camera else steps
            last, seconds = carry_out(steps, side, place, partial(save, place, task))
        except KeyboardInterrupt as error:
            if str(error) or not is_saved:
                raise
            raise Interrupted(f"The pictures of the side before {side} are in {folder}.") from error
        scores = {} if last.text_scores is None else {"text_scores": last.text_scores.tolist()}
        fits = {} if last.fits is None else {"fits": last.fits.tolist()}
        parts[side] = {**scores, **fits, "diversity": last.diversity, **task.figures(last), **progress}
        if side == "ours":
            seconds_per_step = seconds / max(last.total, 1)
    from engine.pictures import png_files
    from engine.system import files
    from engine.system.runtime import threads_in_use

    values = {
        "version": VERSION,
        "settings": ours.to_dict(),
        "models": hashes(ours, models),
        "seconds_per_step": seconds_per_step,
        png_files.THREADS: threads_in_use(),
        **parts,
    }
    report = json.dumps(values, indent=2, allow_nan=False).encode() + b"\n"
    processes.agreed(lambda: files.save_file(folder / output.REPORT, report))
    if camera and processes.number() == 0:
        camera.save(ours.prompt)


def _noted(task: "Task", progress: dict[str, list[float]]) -> "Iterator[Step]":
    """The task's steps; what each tells besides is added to `progress`, by name."""
    for step in task.steps():
        for name, value in task.progress(step).items():
            progress.setdefault(name, []).append(value)
        yield step


def _metadata(
    task: "Task",
    models: Models,
    extra: Mapping[str, Any] | None,
    seeds: Sequence[int],
    index: int,
    step: "Step | None" = None,
) -> dict[str, Any]:
    """What one picture carries, as far as that fits into it."""
    from engine.pictures import png_files
    from engine.system.runtime import threads_in_use

    return png_files.fitting(
        png_files.picture_metadata(
            settings=_settings_at(task.settings, step).to_dict(),
            seeds=seeds,
            index=index,
            models=hashes(task.settings, models),
            extra={**(extra or {}), png_files.THREADS: threads_in_use()},
        )
    )


def _settings_at(settings: RunSettings, step: "Step | None") -> RunSettings:
    """The settings that make a step's pictures again: those of a run that was interrupted say where."""
    if step is None or step.step >= step.total:
        return settings
    return replace(settings, flow=replace(settings.flow, until=step.step))


def _save(
    folder: Path, task: "Task", models: Models, extra: Mapping[str, Any] | None, step: "Step", scale: int
) -> None:
    """Writes 00.png, 01.png, ... of a step, `scale` times as large where that can be. Raises SaveError.

    Each process writes its share. Pictures of more than a page can remake carry their own seed alone: those of the
    others follow from that of the first and from their number.
    """
    from engine.pictures import picture_files, png_files
    from engine.system import files, processes

    seeds = step.particles.seeds
    first = task.picture(step, 0)
    if not picture_files.can_be_enlarged(first, scale):
        width, height = first.size
        print(f"note: {scale} x {width} x {height} is too large; the pictures are saved as they are.", file=sys.stderr)
        scale = 1
    told = {**(extra or {}), **png_files.scale_extra(scale)}
    is_crowd = len(seeds) > LIMITS["n"][1]
    for rows in processes.own(processes.parts_of(len(seeds), SAVED_TOGETHER)):
        for index in range(rows.start, rows.stop):
            own, place = ((seeds[index],), 0) if is_crowd else (seeds, index)
            metadata = _metadata(task, models, told, own, place, step)
            picture = picture_files.enlarged(task.picture(step, index), scale)
            files.save_file(folder / f"{index:02d}.png", picture_files.encode_picture(picture, metadata))

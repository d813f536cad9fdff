"""`python -m engine generate`: pictures for a prompt, or for none."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from engine.commands import output
from engine.commands.progress import show_search
from engine.commands.shared import (
    add_model_options,
    add_run_options,
    add_towards_options,
    load_models,
    read_shown,
    read_towards,
    run_tasks,
    warn_of_cut_words,
    warn_of_doubts,
    with_towards,
)
from engine.commands.video import Camera
from engine.models.table import family_of, first_settings, list_models
from engine.settings import CodeOrder, FlowSettings, GenerateSettings, SettingsError

FLOW_OPTIONS = ("step_size", "diversity", "codebook", "code_order")  # not given: the preset's


def add_commands(commands: Any) -> None:
    """Adds the command to the subparsers of `python -m engine`."""
    _add_generate(commands.add_parser("generate", help="write pictures for a prompt, or any, into a folder"))


def _add_generate(parser: argparse.ArgumentParser) -> None:
    default = GenerateSettings(prompt="-")
    parser.set_defaults(command=_generate)
    parser.add_argument("prompt", help='what the pictures should show; "" for any that look real')
    add_run_options(parser)
    parser.add_argument("--truncation", type=float, default=default.truncation_psi, help="psi (%(default)s)")
    parser.add_argument("--space", help="latent space, such as z, w, w+, codes (the model's)")
    parser.add_argument(
        "--classes", "--class", default="auto", help="auto, from the prompt, or NAME,NAME (%(default)s)"
    )
    parser.add_argument(
        "--class-count", type=int, default=default.class_count, help="how many the prompt may find (%(default)s)"
    )
    parser.add_argument("--relaxed-classes", action="store_true", help="let the classes' weights move too")
    parser.add_argument("--stage1", type=int, metavar="N", help="steps in which all codes move together (60)")
    parser.add_argument("--stage2", type=int, metavar="N", help="steps after those in which they settle in turn (60)")
    parser.add_argument("--code-order", help=f"whose turn is first: {', '.join(get_args(CodeOrder))} (rows)")
    parser.add_argument("--codebook", type=float, help="weight of the pull to the nearest code; 0: none (8)")
    parser.add_argument(
        "--cutouts", type=int, default=default.cutouts, help="random views that the words judge; 0: the picture (0)"
    )
    parser.add_argument(
        "--candidates", type=int, metavar="N", help="starts that each particle tries, where latents are codes (512)"
    )
    add_towards_options(parser)
    parser.add_argument(
        "--unlike",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="pictures, or folders of them, that the results are to be unlike: those of earlier runs",
    )
    parser.add_argument(
        "--like",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="pictures, or folders of them, that the results are to be like; --towards-weight says how much",
    )
    parser.add_argument(
        "--baseline",
        action="store_true",
        help="also the same seeds without repulsion, without words as the model alone draws them",
    )
    add_model_options(parser, prompt_model=None)


def _settings(options: argparse.Namespace) -> GenerateSettings:
    """What the options ask for. Raises SettingsError."""
    row = next((row for row in list_models() if row.name == options.model), None)
    name = row.family if row else ""
    family, settings = family_of(name, row), first_settings(options.model, name, row)
    settings = replace(
        settings,
        prompt=options.prompt,
        prompt_model=options.prompt_model or settings.prompt_model,
        n=options.n,
        seed=options.seed,
        space=options.space,
        truncation_psi=options.truncation,
        baseline=options.baseline,
        classes=_class_names(options.classes),
        class_count=options.class_count,
        relaxed_classes=options.relaxed_classes,
        cutouts=options.cutouts,
        candidates=settings.candidates if options.candidates is None else options.candidates,
    )
    settings = replace(settings.with_preset(options.preset), flow=family.flow(options.preset))
    chosen = {name: getattr(options, name) for name in FLOW_OPTIONS if getattr(options, name) is not None}
    flow = _with_stages(settings.flow, options, has_stages=row is None or family.has_stages)
    return replace(settings, flow=replace(flow, **chosen))


def _class_names(text: str) -> tuple[str, ...]:
    """Those of NAME,NAME; none where they are left to the prompt. Raises SettingsError for an empty name."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise SettingsError("classes: a name is empty; give auto, or names such as coat,bag.")
    return () if names == ("auto",) else names


def _with_stages(flow: FlowSettings, options: argparse.Namespace, *, has_stages: bool) -> FlowSettings:
    """--stage1 and --stage2 make up the steps; --steps are both together. Raises SettingsError for all three."""
    if options.stage1 is None and options.stage2 is None:
        if options.steps is None:
            return flow
        return replace(flow, steps=options.steps, detail_steps=options.steps * flow.detail_steps // flow.steps)
    if options.steps is not None:
        raise SettingsError("steps: give --steps, or --stage1 and --stage2, which add up to it.")
    if not has_stages:
        raise SettingsError(f"stages: {options.model} has none, as it has no codes; give --steps.")
    first = flow.steps - flow.detail_steps if options.stage1 is None else options.stage1
    detail = flow.detail_steps if options.stage2 is None else options.stage2
    for name, value in (("stage1", first), ("stage2", detail)):
        if value < 0:
            raise SettingsError(f"{name}: {value} is below 0; give a number of steps.")
    return replace(flow, steps=first + detail, detail_steps=detail)


def _generate(options: argparse.Namespace) -> None:
    examples = read_towards(options)  # wrong options are said before torch is imported
    seen, liked = read_shown(options.unlike), read_shown(options.like)
    settings = with_towards(_settings(options), options, examples)
    settings = replace(settings, unlike=seen.sha256 if seen else "", like=liked.sha256 if liked else "")
    camera = Camera.asked_for(options)
    options.out = output.run_folder(options.out, overwrite=options.overwrite)
    from engine import tasks

    options.prompt_model = settings.prompt_model
    models = load_models(options)
    warn_of_cut_words(settings.prompt, models)
    warn_of_doubts(settings.prompt, models)
    ours = tasks.generate(settings, *models, examples=examples, seen=seen, liked=liked, watch=show_search())
    if ours.aim:
        print(f"note: {ours.aim}", file=sys.stderr)
    sides = {"ours": ours} | ({"baseline": ours.baseline()} if settings.baseline else {})
    run_tasks(sides, models, options.out, scale=options.scale, camera=camera)

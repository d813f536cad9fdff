"""`python -m engine generate`: pictures for a prompt, for many, or for none."""

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from engine.bulk.prompts import alternatives, read_prompts, slug
from engine.commands import output, several
from engine.commands.progress import show_search
from engine.commands.shared import (
    Models,
    add_model_options,
    add_run_options,
    add_towards_options,
    load_models,
    read_shown,
    read_towards,
    reward_of,
    run_tasks,
    warn_of_cut_words,
    warn_of_doubts,
    with_towards,
)
from engine.commands.video import Camera
from engine.families import family_of_folder
from engine.models.table import family_of, first_settings, list_models
from engine.settings import (
    GENERATE_PRESETS,
    LIMITS,
    MOST_AT_ALL,
    CodeOrder,
    CrowdSettings,
    Divergence,
    FlowSettings,
    GenerateSettings,
    Selection,
    SettingsError,
)

if TYPE_CHECKING:
    from engine.pictures.examples import Examples
    from engine.pictures.picture_files import Picture

FLOW_OPTIONS = ("step_size", "diversity", "codebook", "code_order", "divergence", "chunk")  # not given: the preset's


def add_commands(commands: Any) -> None:
    """Adds the command to the subparsers of `python -m engine`."""
    _add_generate(commands.add_parser("generate", help="write pictures for a prompt, or any, into a folder"))


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=carry_out)
    parser.add_argument(
        "prompt",
        nargs="?",
        help='what the pictures should show; "a {red|blue} hat" is two prompts; "" for any that look real',
    )
    parser.add_argument(
        "--prompts",
        metavar="FILE",
        help="a file with one prompt a line, each with its alternatives, in place of PROMPT; -: the standard input",
    )
    add_run_options(parser, most=MOST_AT_ALL, presets=GENERATE_PRESETS)
    add_generate_options(parser)
    parser.add_argument(
        "--baseline",
        action="store_true",
        help="also the same seeds without repulsion; without words, and of others' samplers, the model alone",
    )


def add_generate_options(parser: argparse.ArgumentParser) -> None:
    """What `settings_of` reads besides the options of every run, and the models."""
    default = GenerateSettings(prompt="-")
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
    parser.add_argument(
        "--choose",
        choices=[name for name in get_args(Selection) if name],
        default=default.choose,
        help="the discriminator chooses where the pictures begin: sir, resampling; drs, rejection; mh, Markov chains",
    )
    parser.add_argument(
        "--draws", type=int, default=default.draws, metavar="K", help="of how many starts for each (%(default)s)"
    )
    parser.add_argument("--divergence", help=f"that the flow descends: {', '.join(get_args(Divergence))} (kl)")
    parser.add_argument(
        "--denoising-steps",
        type=int,
        default=default.denoising_steps,
        metavar="K",
        help="of a diffusion model: 1 to 4 steps from noise to picture; 0: as many as it is made for (0)",
    )
    parser.add_argument(
        "--gradient-steps",
        default=default.gradient_steps,
        help="gradients go through all of those, or the last alone: less memory and time, rougher directions (all)",
    )
    for side in ("width", "height"):
        parser.add_argument(
            f"--{side}", type=int, default=0, help=f"of a diffusion model: the pictures' {side} in pixels (its own)"
        )
    parser.add_argument(
        "--chunk", type=int, metavar="N", help="pictures whose gradients are in memory at once (all; of over 64: 16)"
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="PICTURE",
        help="of a diffusion model: variations of this picture, whose size is taken where none is given",
    )
    parser.add_argument(
        "--strength",
        type=float,
        default=default.start_strength,
        help="how much noise is added to it: 1 leaves next to nothing of the picture (%(default)s)",
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
    add_model_options(parser, prompt_model=None)
    parser.add_argument(
        "--reward-model",
        default="",
        help="a second prompt model that judges the pictures by the same words, such as HPS v2: as --prompt-model",
    )
    parser.add_argument(
        "--reward-weight",
        type=float,
        default=default.reward_weight,
        help="how much it counts beside the first, which counts 1 (%(default)s)",
    )


def settings_of(options: argparse.Namespace) -> GenerateSettings:
    """What the options ask for. Raises SettingsError."""
    row = next((row for row in list_models() if row.name == options.model), None)
    name = row.family if row else family_of_folder(options.model)
    family, settings = family_of(name, row), first_settings(options.model, name, row)
    if not 1 <= options.n <= LIMITS["n"][1]:
        settings = CrowdSettings.of(settings, options.n)
    settings = replace(
        settings,
        n=options.n,
        prompt=options.prompt,
        prompt_model=options.prompt_model or settings.prompt_model,
        seed=options.seed,
        space=options.space,
        truncation_psi=options.truncation,
        baseline=options.baseline,
        classes=_class_names(options.classes),
        class_count=options.class_count,
        relaxed_classes=options.relaxed_classes,
        cutouts=options.cutouts,
        candidates=settings.candidates if options.candidates is None else options.candidates,
        choose=options.choose,
        draws=options.draws,
        denoising_steps=options.denoising_steps,
        gradient_steps=options.gradient_steps,
        width=options.width,
        height=options.height,
        start_strength=options.strength,
        reward_model=options.reward_model,
        reward_weight=options.reward_weight,
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
        return flow.with_steps(options.steps)
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


def prompts_of(options: argparse.Namespace) -> tuple[str, ...]:
    """The prompts that the options ask for. Raises SettingsError."""
    if options.prompts is None:
        if options.prompt is None:
            raise SettingsError("prompt: write what the pictures should show, or give --prompts FILE.")
        return alternatives(options.prompt)
    if options.prompt is not None:
        raise SettingsError("prompts: give PROMPT or --prompts FILE, not both.")
    return read_prompts(_text_of(options.prompts))


def _text_of(name: str) -> str:
    """A file's text, or that of the standard input. Raises SettingsError for what is no text, and OSError."""
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"prompts: {name} is no text in UTF-8.") from error


class Given(NamedTuple):
    """The pictures that the options name: to go towards, to be unlike, to be like, and the one to begin at."""

    examples: "Examples | None"
    seen: "Examples | None"
    liked: "Examples | None"
    picture: "Picture | None"

    @classmethod
    def by(cls, options: argparse.Namespace) -> "Given":
        """Raises PictureError, and SettingsError."""
        shown = read_shown(options.unlike), read_shown(options.like)
        return cls(read_towards(options), *shown, _picture_of(options.start_from))

    def settings(self, options: argparse.Namespace) -> GenerateSettings:
        """What the options ask for, with the hashes of these. Raises SettingsError."""
        settings = with_towards(settings_of(options), options, self.examples)
        unlike, like, start = (found.sha256 if found else "" for found in (self.seen, self.liked, self.picture))
        return replace(settings, unlike=unlike, like=like, start_from=start)


def _picture_of(path: Path | None) -> "Picture | None":
    """Raises PictureError."""
    if path is None:
        return None
    from engine.pictures import picture_files

    return picture_files.read_picture(path)


def carry_out(options: argparse.Namespace) -> None:
    """The whole command, by one process or several."""
    with several.together():
        options.seed = several.agreed(lambda: options.seed)  # one may have been drawn
        _generate(options)


def _generate(options: argparse.Namespace) -> None:
    prompts = several.agreed(partial(prompts_of, options))  # wrong options are said before torch is imported
    options.prompt = prompts[0]
    given = Given.by(options)
    each = [given.settings(argparse.Namespace(**{**vars(options), "prompt": prompt})) for prompt in prompts]
    if len(each) > 1 and options.video is not None:
        raise SettingsError("video: of one prompt at a time; leave out --video, or the other prompts.")
    if options.n > LIMITS["n"][1] and options.video is not None:
        raise SettingsError(f"video: of at most {LIMITS['n'][1]:.0f} pictures; leave out --video, or make fewer.")
    camera = Camera.asked_for(options)
    options.prompt_model = each[0].prompt_model
    models: Models | None = None
    for number, settings in enumerate(each):
        place = options.out if len(each) == 1 else options.out / f"{number:02d}-{slug(settings.prompt)}"
        folder = several.agreed(partial(output.run_folder, place, overwrite=options.overwrite))
        models = models or load_models(options)
        if len(each) > 1:
            print(f'prompt {number + 1} of {len(each)}: "{settings.prompt}", into {folder}', file=sys.stderr)
        run_one(settings, models, given, folder, scale=options.scale, camera=camera)


def run_one(
    settings: GenerateSettings,
    models: Models,
    given: Given,
    folder: Path,
    *,
    scale: int = 1,
    camera: Camera | None = None,
) -> None:
    """Carries out one run into a folder, and says what of its prompt is not understood. Raises as `run_tasks`."""
    from engine import tasks

    warn_of_cut_words(settings.prompt, models)
    warn_of_doubts(settings.prompt, models)
    reward = reward_of(settings, models)
    ours = tasks.generate(settings, *models, **given._asdict(), reward=reward, watch=show_search())
    if ours.aim:
        print(f"note: {ours.aim}", file=sys.stderr)
    sides = {"ours": ours} | ({"baseline": ours.baseline()} if settings.baseline else {})
    run_tasks(sides, models, folder, scale=scale, camera=camera)

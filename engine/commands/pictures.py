"""`python -m engine edit | inpaint | translate | invert | directions`: what works on a person's own picture."""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from engine.commands import output
from engine.commands.progress import show_bar, show_search
from engine.commands.shared import (
    Models,
    add_model_options,
    add_quick,
    add_run_options,
    add_towards_options,
    load_models,
    read_towards,
    run_tasks,
    warn_of_cut_words,
    warn_of_doubts,
    with_towards,
)
from engine.commands.video import Camera
from engine.errors import PictureError
from engine.models.table import list_models, usual_prompt_model
from engine.settings import (
    EDIT_BASELINES,
    EDIT_METHODS,
    TRANSLATE_BASELINES,
    TRANSLATE_METHODS,
    EditSettings,
    InpaintSettings,
    RunSettings,
    SettingsError,
    TranslateSettings,
)

if TYPE_CHECKING:
    from engine.pictures.picture_files import Picture
    from engine.tasks.inversion import Start

Settings = TypeVar("Settings", EditSettings, InpaintSettings, TranslateSettings)

FLOW_OPTIONS = ("steps", "step_size", "diversity")  # not given: the preset's


# ---- the commands' arguments -----------------------------------------------------------------------------


def add_commands(commands: Any) -> None:
    """Adds the five commands to the subparsers of `python -m engine`."""
    _add_edit(commands.add_parser("edit", help="change a picture as words say, in different ways"))
    _add_inpaint(commands.add_parser("inpaint", help="repaint a masked part of a picture, in different ways"))
    _add_translate(commands.add_parser("translate", help="redraw a picture in another domain, in different ways"))
    _add_invert(commands.add_parser("invert", help="redraw a picture with a generator and keep its latents"))
    _add_directions(commands.add_parser("directions", help="measure what edits need to know of two models, once"))


def _add_edit(parser: argparse.ArgumentParser) -> None:
    default = EditSettings(prompt="-")
    parser.set_defaults(command=_edit)
    parser.add_argument("image", type=Path, help="the picture, or its saved w (.pt, .npz, .npy, .safetensors)")
    parser.add_argument("prompt", help="what it should be")
    parser.add_argument("--neutral", default=default.neutral, help="what it is (%(default)s)")
    parser.add_argument("--method", default=default.method, help=f"{', '.join(EDIT_METHODS)} (%(default)s)")
    parser.add_argument("--strength", type=float, default=default.strength, help="how far (%(default)s)")
    parser.add_argument(
        "--disentanglement", type=float, default=default.disentanglement, help="StyleCLIP's beta (%(default)s)"
    )
    parser.add_argument("--identity", type=float, default=default.identity, help="pull to the start (%(default)s)")
    parser.add_argument(
        "--baseline",
        nargs="?",
        const="no repulsion",
        default="none",
        help=f"also another way from the same start: {', '.join(EDIT_BASELINES[1:])} (no repulsion)",
    )
    add_towards_options(parser)
    _add_shared(parser)


def _add_inpaint(parser: argparse.ArgumentParser) -> None:
    default = InpaintSettings()
    parser.set_defaults(command=_inpaint)
    parser.add_argument("image", type=Path, help="the picture")
    parser.add_argument(
        "mask", type=Path, help="a picture of the same proportions: white, or cut out, where it is repainted"
    )
    parser.add_argument("prompt", nargs="?", default="", help="what the repainted part should show")
    parser.add_argument("--invert-mask", action="store_true", help="repaint what is black instead")
    parser.add_argument("--grow", type=int, default=default.grow, help="grow the mask by so many pixels (%(default)s)")
    parser.add_argument(
        "--feather", type=int, default=default.feather, help="fade in over so many pixels inside its edge (%(default)s)"
    )
    parser.add_argument(
        "--known-weight",
        type=float,
        default=default.known_weight,
        help="how much the rest must fit, where the model does not see it anyway (%(default)s)",
    )
    parser.add_argument(
        "--baseline",
        action="store_true",
        help="also the same seeds without repulsion; of a Co-Mod-GAN, the model alone",
    )
    _add_shared(parser, prompt_model=None)


def _add_translate(parser: argparse.ArgumentParser) -> None:
    default = TranslateSettings()
    parser.set_defaults(command=_translate)
    parser.add_argument("image", type=Path, help="the picture")
    parser.add_argument("--to", default=default.domain, metavar="DOMAIN", help="what it becomes (the model's first)")
    parser.add_argument(
        "--square",
        metavar="LEFT,TOP,SIDE",
        help="the part of the picture that is translated, in pixels (the largest square in its middle)",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a picture whose style is taken; may be given several times, then in turn (styles are drawn)",
    )
    parser.add_argument("--prompt", default=default.prompt, help="what else the results should show (nothing)")
    parser.add_argument(
        "--style-scale", type=float, default=default.style_scale, help="how far the style moves (%(default)s)"
    )
    parser.add_argument(
        "--content-scale",
        type=float,
        default=default.content_scale,
        help="how far the picture's own content moves; 0: the style alone (%(default)s)",
    )
    parser.add_argument("--identity", type=float, default=default.identity, help="pull to the start (%(default)s)")
    parser.add_argument("--method", default=default.method, help=f"{', '.join(TRANSLATE_METHODS)} (%(default)s)")
    parser.add_argument(
        "--baseline",
        nargs="?",
        const="plain",
        default="none",
        help=f"also another way from the same start: {', '.join(TRANSLATE_BASELINES[1:])} (plain)",
    )
    add_run_options(parser)
    _add_background(parser)
    add_model_options(parser)
    parser.set_defaults(model=default.model)


def _add_background(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--background",
        default="white",
        metavar="COLOUR",
        help="what transparent parts are seen on: #rrggbb or a name (%(default)s); the results are as transparent",
    )


def _add_shared(parser: argparse.ArgumentParser, *, prompt_model: str | None = RunSettings.prompt_model) -> None:
    """prompt_model: as of `add_model_options`."""
    add_run_options(parser)
    _add_background(parser)
    parser.add_argument("--inversion-steps", type=int, help="steps of the search for the picture's latents")
    add_model_options(parser, prompt_model=prompt_model)


def _add_invert(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_invert)
    parser.add_argument("image", type=Path, help="the picture")
    parser.add_argument("--out", type=Path, required=True, help="the file for the latents (.safetensors) or picture")
    parser.add_argument("--inversion-steps", type=int, help="steps of the search")
    _add_background(parser)
    add_quick(parser)
    add_model_options(parser)


def _add_directions(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_directions)
    parser.add_argument(
        "--space", choices=("w", "s", "both"), default="both", help="w for our edit, s for StyleCLIP's (%(default)s)"
    )
    parser.add_argument("--count", type=int, help="random pictures to measure on (4000 for w, 100 for s)")
    parser.add_argument("--bundle", action="store_true", help="into the bundled model's folder, not the cache")
    add_model_options(parser)


def _with_flow(settings: Settings, options: argparse.Namespace) -> Settings:
    """The preset's numbers with those given. Raises SettingsError."""
    settings = settings.with_preset(options.preset)
    chosen = {name: getattr(options, name) for name in FLOW_OPTIONS if getattr(options, name) is not None}
    return replace(settings, flow=replace(settings.flow, **chosen))


def _edit_settings(options: argparse.Namespace) -> EditSettings:
    names = ("prompt", "neutral", "method", "strength", "disentanglement", "identity", "baseline")
    chosen = {name: getattr(options, name) for name in (*names, "model", "prompt_model", "n", "seed")}
    return _with_flow(EditSettings(**chosen), options)


def _inpaint_settings(options: argparse.Namespace) -> InpaintSettings:
    if options.prompt_model is None:
        options.prompt_model = usual_prompt_model(
            next((row for row in list_models() if row.name == options.model), None)
        )
    names = ("prompt", "grow", "feather", "known_weight", "baseline", "model", "prompt_model", "n", "seed")
    chosen = {name: getattr(options, name) for name in names}
    return _with_flow(InpaintSettings(**chosen, invert=options.invert_mask), options)


def _translate_settings(options: argparse.Namespace) -> TranslateSettings:
    names = ("prompt", "style_scale", "content_scale", "identity", "method", "baseline")
    chosen = {name: getattr(options, name) for name in (*names, "model", "prompt_model", "n", "seed")}
    return _with_flow(TranslateSettings(**chosen, domain=options.to), options)


# ---- what they do ----------------------------------------------------------------------------------------


def _edit(options: argparse.Namespace) -> None:
    examples = read_towards(options)  # wrong options are said before torch is imported
    settings = with_towards(_edit_settings(options), options, examples)
    picture = None if _is_saved_w(options.image) else _read_picture(options)
    camera = Camera.asked_for(options)
    options.out = output.run_folder(options.out, overwrite=options.overwrite)
    from engine import tasks
    from engine.tasks.start_metadata import edit_extras

    models = load_models(options)
    warn_of_cut_words(settings.prompt, models)
    if picture is None:
        start, about = _read_start(options.image, models)
    else:
        start = _find_start(picture, models, _inversion_steps(options))
        about = _about(picture, start)
    sides = {"ours": settings}
    if settings.baseline != "none":
        sides["baseline"] = tasks.baseline(settings)
    # All are made before one runs: what a method lacks is said at once.
    made = {side: tasks.edit(chosen, start, *models, examples=examples) for side, chosen in sides.items()}
    extra = edit_extras(start, picture, options.image.name)
    run_tasks(made, models, options.out, scale=options.scale, camera=camera, extra=extra, **about)


def _inpaint(options: argparse.Namespace) -> None:
    settings = _inpaint_settings(options)
    picture = _read_picture(options)
    from engine import tasks
    from engine.pictures import masks
    from engine.tasks.filling import what_is_missing
    from engine.tasks.start_metadata import inpaint_extras

    read = masks.read_mask(options.mask, picture.size)
    if read.note:
        print(f"note: {read.note}", file=sys.stderr)
    mask = tasks.prepare_mask(settings, read.mask, picture)
    camera = Camera.asked_for(options)
    options.out = output.run_folder(options.out, overwrite=options.overwrite)
    models = load_models(options)
    if settings.prompt:
        warn_of_cut_words(settings.prompt, models)
        warn_of_doubts(settings.prompt, models)
    if missing := what_is_missing(models.generator):
        print(f"note: {missing}", file=sys.stderr)
    steps = _inversion_steps(options)
    found = tasks.look_around(picture, mask, *models, steps=steps, watch=show_search("frame"))
    start = _last_of(found, "inpaint", models)
    ours = tasks.inpaint(settings, picture, mask, start, *models)
    made = {"ours": ours} | ({"baseline": ours.baseline()} if settings.baseline else {})
    extra = inpaint_extras(masks.encode_mask(read.mask), mask, picture, picture.name)
    run_tasks(made, models, options.out, scale=options.scale, camera=camera, extra=extra, **_about(picture, start))


def _translate(options: argparse.Namespace) -> None:
    settings = _translate_settings(options)
    picture, references = _square(_read_picture(options), options.square), None
    if options.reference:
        from engine.pictures.examples import read_examples

        references = read_examples(options.reference)
        settings = replace(settings, references=references.sha256)
    camera = Camera.asked_for(options)
    options.out = output.run_folder(options.out, overwrite=options.overwrite)
    from engine import tasks
    from engine.tasks.start_metadata import translate_extras
    from engine.tasks.translation import what_is_missing

    models = load_models(options)
    translator = tasks.check_translation(settings, models.generator, references)
    if missing := what_is_missing(translator):
        print(f"note: {missing}", file=sys.stderr)
    if settings.prompt:
        warn_of_cut_words(settings.prompt, models)
    ours = tasks.translate(settings, picture, *models, references=references)
    made = {"ours": ours}
    if settings.baseline != "none":
        chosen = tasks.baseline(settings)
        made["baseline"] = tasks.translate(chosen, picture, *models, references=references)
    extra = translate_extras(ours.begin, ours.references, picture.name)
    about: dict[str, Any] = {"picture": _facts(picture)}
    if references:
        about["references"] = [_facts(reference) for reference in references.pictures]
    run_tasks(made, models, options.out, scale=options.scale, camera=camera, extra=extra, **about)


def _square(picture: "Picture", asked: str | None) -> "Picture":
    """Of `--square`. Raises SettingsError for what is no three whole numbers, PictureError for what is not inside."""
    if asked is None:
        return picture
    from engine.pictures.picture_files import Box, square_of

    try:
        left, top, side = (int(part) for part in asked.split(","))
    except ValueError:
        raise SettingsError(f"square: expected LEFT,TOP,SIDE in pixels, such as 40,0,256, got {asked!r}.") from None
    return square_of(picture, Box(left, top, side))


def _invert(options: argparse.Namespace) -> None:
    if options.out.suffix not in (".safetensors", ".png"):
        raise SettingsError(
            f"out: {options.out.name!r} must end in .safetensors (for the latents) or .png (for the redrawn picture)."
        )
    picture = _read_picture(options)
    output.check_file(options.out)
    from engine.checkpoints import write_safetensors
    from engine.pictures import imaging, picture_files
    from engine.system import files

    models = load_models(options)
    start = _find_start(picture, models, _inversion_steps(options))
    if options.out.suffix == ".png":
        redrawn = picture_files.redrawn(picture, imaging.to_uint8(start.image)[0], start.box)
        files.save_file(options.out, picture_files.encode_picture(redrawn))
    else:
        noise = {f"noise.{name}": values for name, values in start.noise.items()}
        try:
            write_safetensors(options.out, {"latents": start.latents, "residual": start.residual, **noise})
        except OSError as error:
            raise files.save_error(options.out, error) from error
    print(f"distance {start.distance:.4f}")


def _directions(options: argparse.Namespace) -> None:
    from engine.tasks import styleclip

    models = load_models(options)
    for space in styleclip.SPACES if options.space == "both" else (options.space,):
        name = styleclip.file_name(*models, space)
        folder = styleclip.bundle_folder(models.generator) if options.bundle else styleclip.directions_folder()
        if folder is None:
            raise SettingsError(f"bundle: {models.generator.name} is not a bundled model; leave --bundle out.")
        started, is_tried = time.perf_counter(), False
        for done, total in styleclip.compute_directions(*models, space, path=folder / name, count=options.count):
            if not is_tried:  # what is wrong with the models or the count was said by now
                output.check_file(folder / name)
                is_tried = True
            show_bar(f"{space:<8}", done, total, time.perf_counter() - started)
        print(folder / name)


def _read_picture(options: argparse.Namespace) -> "Picture":
    """The picture of the options, its transparent parts on their background. Raises PictureError, SettingsError."""
    from PIL import ImageColor

    from engine.pictures import picture_files

    if _is_saved_w(options.image):
        raise PictureError(f"{options.image.name} holds no picture but the w of one, at which only `edit` can begin.")
    try:
        red, green, blue, *_ = ImageColor.getrgb(options.background)
    except ValueError as error:
        raise SettingsError(
            f"background: {options.background!r} is no colour; write it as #rrggbb, or a name such as white."
        ) from error
    picture = picture_files.read_picture(options.image, background=(red, green, blue))
    if note := picture_files.depth_note(picture):
        print(f"note: {note}", file=sys.stderr)
    return picture


def _is_saved_w(path: Path) -> bool:
    if not path.is_file():
        return False  # which is said before torch is imported
    from engine.tasks import saved_starts

    return saved_starts.is_saved_w(path)


def _read_start(path: Path, models: Models) -> "tuple[Start, dict[str, Any]]":
    """A saved start, and what run.json says of it."""
    from engine.system import files
    from engine.tasks import saved_starts

    start = saved_starts.saved_start(path, models.generator)
    return start, {"start": {"name": path.name, "sha256": files.sha256_of(path)}}


def _inversion_steps(options: argparse.Namespace) -> int | None:
    """Raises SettingsError for an impossible number."""
    steps: int | None = options.inversion_steps
    if steps is not None and not 0 <= steps <= 10_000:
        raise SettingsError(f"inversion_steps: {steps} is outside 0 to 10,000.")
    return steps


def _find_start(picture: "Picture", models: Models, steps: int | None) -> "Start":
    """The picture's latents, with progress."""
    from engine.tasks import inversion

    how: dict[str, Any] = {"prompt_model": models.prompt_model, "steps": steps}
    found = inversion.invert(picture, models.generator, watch=show_search("frame"), **how)
    start = _last_of(found, "edit", models)
    assert start is not None
    return start


def _last_of(found: "Iterator[Start]", task: str, models: Models) -> "Start | None":
    """What a search ends with, if it finds anything, with progress."""
    from engine.tasks.offers import out_of_domain

    start = None
    for start in found:
        show_bar("invert", start.step, start.total, start.seconds)
    if start is not None and start.in_domain is False:
        print(f"note: {out_of_domain(task, models.generator.name)}", file=sys.stderr)
    return start


def _about(picture: "Picture", start: "Start | None") -> dict[str, Any]:
    """What run.json says of the picture."""
    return {"picture": _facts(picture), **({"distance_of_reconstruction": start.distance} if start else {})}


def _facts(picture: "Picture") -> dict[str, Any]:
    return {"name": picture.name, "size": list(picture.size), "sha256": picture.sha256}

"""`python -m engine models list | show NAME | get NAME | check FILE | convert FILE --out FILE | remove NAME`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.commands import output
from engine.errors import ModelError, did_you_mean
from engine.models import store, table
from engine.models.public import PUBLIC_MODELS, PublicFile, PublicModel, public_model
from engine.models.store import OWN_LICENCE
from engine.models.table import PUBLIC_PREFIX, ROW_FILE, ModelRow

if TYPE_CHECKING:
    from engine.checkpoints import Checkpoint
    from engine.models.downloads import Progress

BAR_WIDTH = 30
OPENED, NOT_OPENED = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommands of `models`; without one, the list."""
    parser.set_defaults(command=lambda _: list_all())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    commands.add_parser("list", help="what is here and what can be had").set_defaults(command=lambda _: list_all())

    show = commands.add_parser("show", help="all about one model: licence, files, paper, settings")
    show.add_argument("name", help="a name of the list, or a file or folder")
    _add_file_options(show)
    show.set_defaults(command=_show)

    get = commands.add_parser("get", aliases=["download"], help="fetch a public model, or a prompt model of open_clip")
    get.add_argument("name", help=f"a name of the list, or {PUBLIC_PREFIX}ARCHITECTURE/TAG")
    get.add_argument("--accept-licence", action="store_true", help="accept the conditions of its licence, once")
    get.set_defaults(command=_get)

    check = commands.add_parser("check", help="say what a file is and whether it opens, without running any of it")
    check.add_argument("file", type=Path, help="a file or folder of weights")
    _add_file_options(check)
    check.set_defaults(command=_check)

    convert = commands.add_parser("convert", help="write a file of any format as one safetensors file")
    convert.add_argument("file", type=Path, help="a file or folder of weights")
    convert.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    _add_file_options(convert)
    convert.set_defaults(command=_convert)

    remove = commands.add_parser("remove", help="delete a fetched model from the disk")
    remove.add_argument("name", help="a name of the list, or of a fetched prompt model")
    remove.set_defaults(command=_remove)


def _add_file_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="its config.json or yaml, where that is not beside it")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting that the weights cannot tell, such as generator.conv_clamp=256 or eps=1e-4",
    )


# ---- list and show ---------------------------------------------------------------------------------------


def list_all() -> None:
    """The bundled models, the public ones, and what else can be loaded."""
    lines: list[Sequence[str]] = [("name", "kind", "family", "pixels", "MB", "licence")]
    for row in table.list_models():
        lines.append((row.name, row.kind, row.family, str(row.resolution), f"{row.size / 1e6:.1f}", row.licence))
    _print_table(lines)
    here = {entry.model.name: entry.bytes for entry in store.installed()}
    lines = [("public models", "family", "pixels", "MB", "state", "licence")]
    for model in PUBLIC_MODELS:
        size = here.get(model.name, model.megabytes * 1e6) / 1e6
        state = "here" if model.name in here else "get"
        lines.append((model.name, model.family, str(model.resolution), f"{size:.0f}", state, model.licence))
    for prompt in store.prompt_models():
        size = prompt.file.stat().st_size / 1e6
        lines.append((prompt.name, "open_clip", "", f"{size:.0f}", "here", prompt.licence))
    for own in store.own_models():
        lines.append((own.name, own.family, str(own.resolution), f"{own.bytes / 1e6:.0f}", "own", OWN_LICENCE))
    print()
    _print_table(lines)
    print(
        "\n`models get NAME` fetches a public model. Your own files of these families open too: `models check FILE`.\n"
        f"Prompt models also: {PUBLIC_PREFIX}ARCHITECTURE/TAG (any model open_clip knows), or a checkpoint\n"
        "file beside its open_clip_config.json."
    )


def _print_table(lines: Iterable[Sequence[str]]) -> None:
    lines = list(lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _show(options: argparse.Namespace) -> int:
    rows = {row.name: row for row in table.list_models()}
    public = {model.name: model for model in PUBLIC_MODELS}
    if options.name in rows:
        _print_facts(_row_facts(rows[options.name], "bundled"))
    elif options.name in public:
        _print_facts(_public_facts(public[options.name]))
    elif os.path.exists(options.name):  # also of a name that can be none
        options.file = Path(options.name)
        return _check(options)
    else:
        known = [*rows, *public]
        raise ModelError(
            f"There is no model and no file {options.name!r}{did_you_mean(options.name, known)} "
            "`python -m engine models list` shows all."
        )
    return OPENED


def _row_facts(row: ModelRow, where: str) -> list[tuple[str, str]]:
    return [
        ("name", row.name),
        ("kind", f"{row.kind}, {where}"),
        ("family", row.family),
        ("draws", row.domain),
        ("pixels", str(row.resolution)),
        ("licence", row.licence),
        ("data", row.data),
        ("paper", row.paper),
        ("folder", str(row.folder)),
        *((role, f"{file.path.name}, sha256 {file.sha256}") for role, file in row.files.items()),
    ]


def _public_facts(model: PublicModel) -> list[tuple[str, str]]:
    here = store.find_installed(model.name)
    return [
        ("name", model.name),
        ("kind", "generator, public"),
        ("family", model.family),
        ("shows", model.shows),
        ("pixels", f"{model.resolution}, {model.preprocessing}"),
        ("latents", f"{model.latents}; truncation psi {model.truncation_psi:g}"),
        ("licence", model.licence),
        ("conditions", model.conditions or "none"),
        ("paper", model.paper),
        ("state", f"here, in {here.folder}" if here else f"`python -m engine models get {model.name}` fetches it"),
        *(("file", _file_fact(file)) for file in model.files),
    ]


def _file_fact(file: PublicFile) -> str:
    if file.text:
        return f"{file.name}, written here"
    may_miss = ", if it is there" if file.is_optional else ""
    return f"{file.url} (about {file.megabytes:g} MB{may_miss})"


def _print_facts(facts: Iterable[tuple[str, str]]) -> None:
    facts = [(name, value) for name, value in facts if value]
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        print(f"{name.ljust(width)}  {value}")


# ---- check and convert -----------------------------------------------------------------------------------


def _check(options: argparse.Namespace) -> int:
    """Prints what a file is; 0 if it loads, 1 if not."""
    from engine.checkpoints import Refused
    from engine.models import loading

    if (options.file / ROW_FILE).is_file():
        return _check_described(options.file)
    try:
        opened = _open(options)
    except Refused as error:
        print(f"refused: {error.reason}" if error.file == options.file.name else str(error))
        for name in error.wants:
            print(f"it wants {name}")
        return NOT_OPENED
    except ModelError as error:
        print(error)
        return NOT_OPENED
    _print_facts(_checkpoint_facts(opened))
    for problem in loading.unused_problems(opened):
        print(f"not used: {problem}")
    try:
        loading.try_to_load(opened)
    except ModelError as error:
        print(f"problem: {error}")
        return NOT_OPENED
    print("nothing was refused")
    return OPENED


def _check_described(folder: Path) -> int:
    """As `_check`, for a folder with a model.json."""
    from engine.models import loading

    try:
        row = table.read_row(folder)
        _print_facts(_row_facts(row, "in a folder of its own"))
        loading.inspect_file(folder.resolve())
    except ModelError as error:
        print(f"problem: {error}")
        return NOT_OPENED
    print("nothing was refused")
    return OPENED


def _open(options: argparse.Namespace) -> Checkpoint:
    from engine.checkpoints import open_checkpoint

    return open_checkpoint(options.file, given=_given(options.set), description=options.config)


def _given(pairs: Iterable[str]) -> dict[str, Any]:
    """NAME=VALUE, the value as JSON, or a word. Raises ModelError for anything else."""
    given = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise ModelError(f"--set takes NAME=VALUE, got {pair!r}.")
        try:
            given[name] = json.loads(value)
        except ValueError:
            given[name] = value
    return given


def _checkpoint_facts(opened: Checkpoint) -> list[tuple[str, str]]:
    from engine.checkpoints.configuration import about

    facts = [
        ("file", str(opened.provenance.path)),
        ("format", opened.provenance.format),
        ("family", opened.family),
        ("size", f"{opened.provenance.bytes:,} bytes"),
        ("sha256", opened.provenance.sha256),
        ("keys", f"{opened.keys:,} tensors, {opened.parameters:,} numbers"),
    ]
    for role, state in opened.networks.items():
        numbers = sum(tensor.numel() for tensor in state.values())
        kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state.values()})
        facts.append((role, f"{len(state):,} tensors, {numbers:,} numbers, {', '.join(kinds)}"))
    for role, settings in opened.configuration.items():
        for name, setting in settings.items():
            if isinstance(setting.value, dict):
                facts.append((f"{role}.{name}", f"{len(setting.value)} fields ({setting.source})"))
                continue
            value = json.dumps(setting.value)
            facts.append((f"{role}.{name}", f"{value} ({setting.source}; {about(opened.family, role, name)})"))
    facts += [("note", note) for note in opened.provenance.notes]
    return facts


def _convert(options: argparse.Namespace) -> None:
    from engine.checkpoints import convert
    from engine.checkpoints.building import build, can_build

    if options.out.suffix != ".safetensors":
        raise ModelError(f"--out must end in .safetensors, got {options.out.name!r}.")
    output.check_file(options.out)
    opened = _open(options)
    for role in opened.networks:
        if can_build(opened.family, role):
            build(opened, role)  # what does not fit its network must not look like a model
    convert(opened, options.out)
    size = options.out.stat().st_size
    print(f"{options.out}: {opened.family}, {', '.join(opened.networks)}, {opened.keys:,} tensors, {size:,} bytes")
    usual = [
        f"{role}.{name}={json.dumps(setting.value)}"
        for role, settings in opened.configuration.items()
        for name, setting in settings.items()
        if setting.source == "usual value"
    ]
    if usual:
        print(f"Taken as usual, as neither the weights nor a description tell: {', '.join(usual)}. --set changes it.")


# ---- get and remove --------------------------------------------------------------------------------------


def _get(options: argparse.Namespace) -> None:
    places = places_of(options.name)
    model = places[0]
    if here := _folder_of(model):
        print(f"{model.name} is here already, in {here}.")
        return
    if options.accept_licence and model.conditions:
        store.accept_licence(model)
    size = f"about {model.megabytes:.0f} MB; " if model.megabytes else ""
    print(f"{model.name}: {size}licence {model.licence}", file=sys.stderr)
    entry = fetch_from(places, on_progress=_reporter(model))
    print(f"{model.name} is in {entry.folder}, {entry.bytes / 1e6:.1f} MB.")


def places_of(name: str) -> Sequence[PublicModel]:
    """The rows by which a model can be fetched, the better place first: a public generator, or any tag of open_clip.

    Raises ModelError for an unknown name.
    """
    if not name.startswith(PUBLIC_PREFIX):
        return (public_model(name),)
    from engine.models.clip import public_prompt_models

    architecture, _, tag = name.removeprefix(PUBLIC_PREFIX).partition("/")
    return public_prompt_models(architecture.strip(), tag.strip())


def fetch_from(places: Sequence[PublicModel], **how: Any) -> store.Installed:
    """Fetches a model from the first place that has it; the last one tells what is wrong. As `store.fetch`."""
    from engine.models.downloads import Cancelled

    for place in places[:-1]:
        try:
            return store.fetch(place, family_of, **how)
        except (Cancelled, store.LicenceError):
            raise
        except ModelError:
            continue
    return store.fetch(places[-1], family_of, **how)


def _folder_of(model: PublicModel) -> Path | None:
    """Where a model is, if it was fetched."""
    if here := store.find_installed(model.name):
        return here.folder
    file = store.find_prompt_file(model.name)
    return file.parent if file else None


def family_of(folder: Path) -> str:
    """The family of the model in a folder. Raises ModelError for what does not open."""
    from engine.checkpoints import open_checkpoint

    return open_checkpoint(folder).family


def _reporter(model: PublicModel) -> store.OnProgress:
    """One bar for each file; for a folder of parts one for all, below the size of what is to come."""
    is_told = False

    def of_folder(_: PublicFile, progress: Progress) -> None:
        nonlocal is_told
        if not is_told:
            is_told, total = True, progress.total or 0
            here = f", {progress.done / 1e6:,.1f} MB of them here already" if progress.done else ""
            print(f"{model.name}: {total / 1e6:,.1f} MB in all{here}", file=sys.stderr)
        _show_progress(model.name, progress)

    return of_folder if model.is_folder else lambda file, progress: _show_progress(file.name, progress)


def _show_progress(name: str, progress: Progress) -> None:
    done, total = progress.done / 1e6, progress.total
    if total is None:
        print(f"\r{name}  {done:.1f} MB  {progress.speed / 1e6:.1f} MB/s ", end="", file=sys.stderr, flush=True)
        return
    share = progress.done / total if total else 1.0
    bar = ("#" * round(BAR_WIDTH * share)).ljust(BAR_WIDTH, ".")
    left = f"{progress.seconds_left:.0f} s left" if progress.seconds_left else ""
    end = "\n" if progress.done == total else ""
    line = f"\r{name} [{bar}] {done:.1f}/{total / 1e6:.1f} MB  {progress.speed / 1e6:.1f} MB/s  {left:<12}"
    print(line, end=end, file=sys.stderr, flush=True)


def _remove(options: argparse.Namespace) -> None:
    from engine.checkpoints.opening import forget

    if options.name.startswith(PUBLIC_PREFIX):
        if file := store.find_prompt_file(options.name):
            forget(file)
        freed = store.remove_prompt(options.name)
        print(f"{options.name} was deleted; {freed / 1e6:.1f} MB are free again.")
        return
    model = public_model(options.name)
    if here := store.find_installed(model.name):
        forget(here.folder)
    freed = store.remove(model)
    print(f"{model.name} was deleted; {freed / 1e6:.1f} MB are free again.")

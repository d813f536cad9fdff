"""What the Models tab shows and does: models that are here, models that can be had, downloads, files being opened.

One `Library` serves all pages: a download that one page began is seen on the others. What takes long runs on threads
of its own and is told as an `Transfer`; pages ask for the newest state.
"""

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engine.commands.models import fetch_from, places_of
from engine.errors import LoadingStopped, ModelError
from engine.families import find_family
from engine.models import memory, store
from engine.models.downloads import Cancelled, Patience, Progress
from engine.models.public import PUBLIC_MODELS, PublicFile, PublicModel
from engine.models.table import PUBLIC_PREFIX, ModelRow
from engine.system.files import is_out_of_space
from engine.system.folders import models_folder
from gmi_ui.models.models import Models, shown_name
from gmi_ui.notices import NotPossibleError, explain

if TYPE_CHECKING:
    from engine.models.store import OwnModel

Source = Literal["bundled", "fetched", "own"]

TASK_NAMES = {"generate": "Generate", "edit": "Edit", "inpaint": "Inpaint", "translate": "Translate"}
MOST_PICTURES = 64
MOST_TRANSFERS = 24  # of those that are over, the oldest are forgotten
GIGABYTE = 10**9
NOTES_SHOWN = 3  # of what was taken off a file, made up for it, or left out
LONGEST_PATH = 2000  # characters


@dataclass(eq=False)
class Transfer:
    """Something that takes long: a download, or a file being opened. Changed by its thread, read by any."""

    kind: Literal["fetch", "open"]
    name: str
    number: int
    doing: str = ""
    share: float | None = None
    speed: float | None = None  # bytes a second
    left: float | None = None  # seconds
    message: str = ""  # at the end: what it is, or what went wrong
    state: Literal["going on", "done", "failed", "stopped"] = "going on"
    cancel: threading.Event = field(default_factory=threading.Event)

    @property
    def is_stopping(self) -> bool:
        return self.cancel.is_set()

    def tell(self, doing: str, share: float | None = None) -> None:
        """How far it is."""
        self.doing, self.share = doing, share

    def shown(self) -> dict[str, Any]:
        """For the page."""
        return {
            "kind": self.kind,
            "name": self.name,
            "label": shown_name(self.name),
            "number": self.number,
            "doing": self.doing,
            "share": self.share,
            "speed": self.speed,
            "left": self.left,
            "message": self.message,
            "state": self.state,
            "stopping": self.is_stopping and self.state == "going on",
        }


class Library:
    """Every method may be called from any thread."""

    def __init__(self, models: Models, *, public: Sequence[PublicModel] = PUBLIC_MODELS) -> None:
        self._models = models
        self.public = public
        self._transfers: list[Transfer] = []
        self._numbers = itertools.count(1)
        self._version = itertools.count(1)
        self._changes = 0  # rises when the menus of the other tabs have to change
        self._lock = threading.Lock()
        self.patience: Patience | None = None  # of downloads; the engine's own

    # ---- what there is

    def state(self, n: int = 8) -> dict[str, Any]:
        """Everything that the tab shows. n: how many pictures the memory is to be told for."""
        n = max(1, min(n, MOST_PICTURES))
        free, total = self._models.memory()
        kept = self._kept()
        here = [self._row(row, n, free, kept) for row in self._models.rows()]
        names = {row["name"] for row in here}
        return {
            "here": here,
            "public": [self._offer(model) for model in self.public if model.name not in names],
            "transfers": [transfer.shown() for transfer in list(self._transfers)],
            "memory": self.memory(),
            "n": n,
            "folder": str(models_folder()),
            "changes": self._changes,
        }

    def memory(self) -> dict[str, Any]:
        """Bytes: free and in all, what loaded models may keep, and do."""
        free, total = self._models.memory()
        pool = self._models.pool
        budget = pool.budget if pool else store.stored_budget() or memory.default_budget()
        return {"free": free, "total": total, "budget": budget, "kept": sum(self._kept().values())}

    def _kept(self) -> dict[str, int]:
        """Bytes of each loaded model, by name."""
        pool = self._models.pool
        return {str(model.key[1]): model.bytes for model in pool.kept()} if pool else {}

    def _row(self, row: ModelRow, n: int, free: int | None, kept: Mapping[str, int]) -> dict[str, Any]:
        size = row.size or _size_on_disk(row)
        weights = kept.get(row.name) or size
        needed = memory.run_bytes(row.family, row.resolution, weights, n) if row.kind == "generator" else weights
        # What is loaded already needs no second place.
        fits = None if free is None else needed - kept.get(row.name, 0) <= free
        source = source_of(row)
        own = source == "own"
        return {
            "name": row.name,
            "label": shown_name(row.name) if own and not row.name.startswith(PUBLIC_PREFIX) else row.name,
            "kind": row.kind,
            "source": source,
            "family": find_family(row.family).label,
            "use": use_of(row),
            "usable": row.kind == "prompt" or bool(tasks_here(row.family)),
            "resolution": row.resolution,
            "size": size,
            "licence": row.licence,
            "limits": limits_of(row.name),
            "place": str(row.folder) if own or source == "fetched" else "",
            "needed": needed,
            "fits": fits,
            "loaded": kept.get(row.name, 0),
            "seconds": self._models.step_times.of(row.name),
        }

    def _offer(self, model: PublicModel) -> dict[str, Any]:
        return {
            "name": model.name,
            "family": find_family(model.family).label,
            "shows": model.shows,
            "resolution": model.resolution,
            "size": int(1e6 * model.megabytes),
            "licence": model.licence,
            "conditions": model.conditions,
            "accepted": _is_accepted(model),
            "paper": model.paper,
            "use": use_of_family(model.family),
        }

    # ---- downloads

    def fetch(self, name: str, *, accept: bool = False) -> dict[str, Any]:
        """Begins a download. Returns what has to be accepted first where that is so, else nothing.

        Raises ModelError and NotPossibleError.
        """
        places = self._places_of(name)
        model = places[0]
        if self._going_on(model.name):
            raise NotPossibleError(f"{model.name} is being fetched already.")
        if not store.is_accepted(model):
            if not accept:
                return {"name": model.name, "licence": model.licence, "conditions": model.conditions}
            store.accept_licence(model)
        self._begin("fetch", model.name, lambda transfer: self._fetch(transfer, places))
        return {}

    def _places_of(self, name: str) -> Sequence[PublicModel]:
        own = next((model for model in self.public if model.name == name), None)
        return (own,) if own else places_of(name)

    def _fetch(self, transfer: Transfer, places: Sequence[PublicModel]) -> str:
        model = places[0]
        total = 1e6 * model.megabytes
        before, last, current = 0, 0, ""  # bytes of earlier files and of this one, its name

        def report(file: PublicFile, progress: Progress) -> None:
            nonlocal before, current, last
            if file.name != current and not model.is_folder:
                before, current = before + last, file.name
            last = progress.done
            done = before + progress.done
            told = model.is_folder or len(model.files) == 1
            whole = progress.total if told else max(total, done)
            transfer.tell(f"{file.name}: {_megabytes(done)}" + (f" of {_megabytes(whole)}" if whole else ""))
            transfer.share = min(done / whole, 1.0) if whole else None
            transfer.speed = progress.speed
            transfer.left = (whole - done) / progress.speed if whole and progress.speed > 0 else None

        transfer.tell("Connecting")
        fetch_from(places, on_progress=report, cancel=transfer.cancel, patience=self.patience)
        return f"{model.name} is here. {_where_to_choose(model.family, 'prompt' if not model.resolution else '')}"

    # ---- own files

    def open(self, path: str, architecture: str = "") -> None:
        """Begins to open a file or folder of this machine. Raises NotPossibleError."""
        told = path.strip().strip("\"'")
        if not told:
            raise NotPossibleError("Write the path of a file of weights, or upload one.")
        if len(told) > LONGEST_PATH or "\0" in told:
            raise NotPossibleError("That is no path of a file.")
        place = Path(told).expanduser()
        self._begin("open", str(place), lambda transfer: self._open(transfer, place, architecture.strip()))

    def take(self, files: Mapping[str, Path], architecture: str = "") -> None:
        """Begins to open uploaded files, which are kept. Raises ModelError, NotPossibleError."""
        place = store.take_upload(dict(files))

        def open_upload(transfer: Transfer) -> str:
            try:
                return self._open(transfer, place, architecture.strip())
            except BaseException:
                store.discard_upload(place)
                raise

        self._begin("open", str(place), open_upload)

    def _open(self, transfer: Transfer, place: Path, architecture: str) -> str:
        from engine.checkpoints.opening import WEIGHT_SUFFIXES

        if not may_hold_a_model(place):
            raise ModelError(
                f"No model opens at {place}. Models are files that end in {', '.join(WEIGHT_SUFFIXES)}, or folders "
                "that hold such files; look at the path again."
            )
        if not place.exists():
            raise ModelError(f"There is no file {place}.")
        place = place.resolve()
        transfer.tell(f"Looking at {place.name}")
        with self._models.serving(transfer):
            model = self._models.inspect(place, architecture)
        store.remember_own(model)
        notes = "".join(f" {note[:1].upper()}{note[1:]}." for note in model.notes[:NOTES_SHOWN])
        return f"{model.label}: {_description(model)}. {_where_to_choose(model.family, model.kind)}{notes}"

    # ---- removing, and the memory

    def remove(self, name: str) -> str:
        """Deletes a fetched model, or takes a file of the user's own from the list; says what was done.

        Raises ModelError, NotPossibleError.
        """
        if self._going_on(name):
            raise NotPossibleError(f"{name} is being fetched. Cancel that first.")
        rows = {row.name: row for row in self._models.rows()}
        row = rows.get(name)
        if row is None:
            raise NotPossibleError(f"{name} is not there any more.")
        if source_of(row) == "bundled":
            raise NotPossibleError(f"{name} cannot be deleted: it comes with the studio.")
        self.unload(name)  # first: Windows deletes no file that is mapped into memory
        freed = self._delete(row)
        with self._lock:
            self._transfers = [one for one in self._transfers if one.name != name]  # that it is here is past
        self._changed()
        if freed:
            return f"{shown_name(name)} was deleted; {_megabytes(freed)} are free again."
        return f"{shown_name(name)} is no longer listed. The file stays where it is."

    @staticmethod
    def _delete(row: ModelRow) -> int:
        if source_of(row) == "own":
            return store.forget_own(row.name)
        from engine.checkpoints.opening import forget

        with suppress(ModelError):  # damaged files have no converted twin
            forget(row.folder)
        return store.remove_prompt(row.name) if row.kind == "prompt" else _remove_public(row.name)

    def unload(self, name: str) -> None:
        """Gives up a loaded model; a run that has it keeps it to its end."""
        pool = self._models.pool
        if pool is not None:
            pool.forget(lambda key: key[1] == name)

    def check_budget(self, gigabytes: Any) -> None:
        """Raises NotPossibleError for what is no amount of memory that loaded models may keep."""
        _, total = self._models.memory()
        most = (total or 1 << 50) / GIGABYTE
        if isinstance(gigabytes, bool) or not isinstance(gigabytes, int | float) or not 0.1 <= gigabytes <= most:
            raise NotPossibleError(f"Loaded models may keep 0.1 to {most:.1f} GB of the memory, got {gigabytes!r}.")

    def set_budget(self, gigabytes: Any) -> None:
        """How much memory loaded models may keep. Raises as `check_budget`."""
        self.check_budget(gigabytes)
        budget = int(gigabytes * GIGABYTE)
        store.store_budget(budget)
        pool = self._models.pool
        if pool is not None:
            pool.set_budget(budget)

    # ---- transfers

    def cancel(self, number: int) -> None:
        """Stops an transfer, or forgets one that is over."""
        with self._lock:
            for transfer in self._transfers:
                if transfer.number == number:
                    transfer.cancel.set()
            self._transfers = [e for e in self._transfers if e.number != number or e.state == "going on"]

    def end(self) -> None:
        """Stops every transfer; a download goes on from there another time."""
        with self._lock:
            for transfer in self._transfers:
                transfer.cancel.set()

    def note(self, name: str, message: str) -> None:
        """Shows why something could not even be begun."""
        with self._lock:
            transfer = Transfer("open", name or "Open a model", next(self._numbers), message=message, state="failed")
            self._transfers = [*(one for one in self._transfers if one.name != transfer.name), transfer]

    def _going_on(self, name: str) -> bool:
        return any(transfer.name == name and transfer.state == "going on" for transfer in list(self._transfers))

    def _begin(self, kind: Literal["fetch", "open"], name: str, act: Callable[[Transfer], str]) -> Transfer:
        with self._lock:
            if self._going_on(name):
                raise NotPossibleError(f"{shown_name(name)} is being opened already.")
            transfer = Transfer(kind, name, next(self._numbers))
            told = ("done",) if kind == "open" else ("done", "failed", "stopped")  # the next try answers a failed one
            over = [
                one
                for one in self._transfers
                if one.state != "going on" and one.name != name and (one.kind != kind or one.state in told)
            ]
            going = [one for one in self._transfers if one.state == "going on"]
            self._transfers = [*over[-MOST_TRANSFERS:], *going, transfer]
        thread = threading.Thread(target=self._carry_out, args=(transfer, act), name=f"{kind} {name}", daemon=True)
        thread.start()
        return transfer

    def _carry_out(self, transfer: Transfer, act: Callable[[Transfer], str]) -> None:
        try:
            message, state = act(transfer), "done"
        except (Cancelled, LoadingStopped) as error:
            message, state = str(error), "stopped"
        except Exception as error:  # whatever is in a file, or on the way to one, the studio goes on
            message, state = told(error), "failed"
        transfer.message, transfer.share, transfer.doing = message, None, ""
        transfer.state = state  # type: ignore[assignment]
        if state == "done":
            self._changed()

    def _changed(self) -> None:
        self._changes = next(self._version)


def told(error: Exception) -> str:
    """What a page says of an error that came up while a model was fetched or opened."""
    if isinstance(error, OSError) and is_out_of_space(error):
        return "The disk is full. Free some space, or choose another folder for models (GMI_MODELS), then try again."
    notice = explain(error)
    if notice.text.startswith("The memory is full"):
        return "There is not enough memory to load it. Unload other models, or close other programs, then try again."
    return notice.text


def source_of(row: ModelRow) -> Source:
    """Where a model that is here comes from."""
    if row.licence == store.OWN_LICENCE:
        return "own"
    return "fetched" if models_folder() in row.folder.parents else "bundled"


def use_of(row: ModelRow) -> str:
    return "Judges pictures by words" if row.kind == "prompt" else use_of_family(row.family)


def tasks_here(family: str) -> tuple[str, ...]:
    """What a family's models can be used for that has a tab."""
    return tuple(task for task in find_family(family).possible_tasks if task in TASK_NAMES)


def use_of_family(family: str) -> str:
    """What a family's models are for, and what of it the page can do."""
    possible = tasks_here(family)
    if possible:
        return ", ".join(TASK_NAMES[task] for task in possible)
    purpose = find_family(family).purpose
    return f"{purpose}; opened, checked and converted here, not run yet" if purpose else "No tab uses it"


def limits_of(name: str) -> str:
    """What a public model's licence demands; empty for others."""
    return next((model.conditions for model in PUBLIC_MODELS if model.name == name), "")


def _where_to_choose(family: str, kind: str) -> str:
    if kind == "prompt" or family == "open_clip":
        return "Choose it as prompt model in any tab."
    possible = tasks_here(family)
    if possible:
        return f"Choose it as model in {' or '.join(TASK_NAMES[task] for task in possible)}."
    return f"{use_of_family(family)}."


def _description(model: "OwnModel") -> str:
    side = f", {model.resolution} px" if model.resolution else ""
    return f"{find_family(model.family).label}{side}, {model.format}"


def _size_on_disk(row: ModelRow) -> int:
    """Bytes of a stored model."""
    own = next((model.bytes for model in store.own_models() if model.name == row.name), None)
    if own is not None:
        return own
    if (entry := store.find_installed(row.name)) is not None:
        return entry.bytes  # of a folder of parts with those in the parts' own
    return sum(file.stat().st_size for file in row.folder.glob("*") if file.is_file())


def _remove_public(name: str) -> int:
    entry = store.find_installed(name)
    if entry is None:
        raise ModelError(f"{name} is not installed.")
    return store.remove(entry.model)


def _is_accepted(model: PublicModel) -> bool:
    try:
        return store.is_accepted(model)
    except ModelError:  # a damaged list is told when something is fetched
        return False


def may_hold_a_model(place: Path) -> bool:
    """Whether a path is that of a model, by its name and what a folder holds.

    Whoever may open models learns nothing of other files by it, not even whether they are there.
    """
    from engine.checkpoints.opening import INDEX_SUFFIXES, WEIGHT_SUFFIXES
    from engine.checkpoints.pipeline_folder import is_pipeline

    if place.name.endswith((*WEIGHT_SUFFIXES, *INDEX_SUFFIXES)):
        return True
    try:
        if not place.is_dir():
            return False
        return is_pipeline(place) or any(file.name.endswith(WEIGHT_SUFFIXES) for file in place.iterdir())
    except OSError:
        return False


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.2f} GB"

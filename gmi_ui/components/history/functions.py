"""What the History tab's component calls on the server. Each takes one dict from the page: nothing in it is trusted."""

import base64
import json
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.errors import ModelError
from engine.settings import EditSettings, InpaintSettings, RunSettings, TranslateSettings
from gmi_ui.history.export import described, export
from gmi_ui.history.facts import Kept
from gmi_ui.history.index import Wanted
from gmi_ui.history.outputs import Outputs
from gmi_ui.history.store import Store
from gmi_ui.models.catalogue import look_up
from gmi_ui.models.models import shown_name
from gmi_ui.notices import NotPossibleError, explain
from gmi_ui.opening import Opening
from gmi_ui.pictures.workspace import SHOWN_SIDE, picture_jpeg
from gmi_ui.services import Services
from gmi_ui.sessions import Arrival
from gmi_ui.tokens import is_token

PAGE, MOST_THUMBNAILS = 100, 100  # pictures that are told of, or shown small, at once
MOST_CHOSEN = 5000  # pictures that one click does something to
LONGEST = 500  # characters of what is searched for
LATEST = 1e12  # seconds since 1970 that are a time
NOT_HERE = (
    "Others can open this studio too (--auth, --share, --host, --allow-host or --root-path), so it shows no history: "
    "what one person made is not for another to see."
)
OFF = "Finished pictures are not kept. Turn it on below, or start the studio without --no-outputs."
TASKS: dict[str, type[RunSettings]] = {"edit": EditSettings, "inpaint": InpaintSettings, "translate": TranslateSettings}
SHOWS_ITS_WORDS = ("generate", "edit")  # tasks whose prompts say what all of a picture shows
Restore = Callable[[str, Path], str]
GoBy = Callable[[str, Sequence[Path], str], str]


def history_functions(services: Services, restore: Restore, more: Restore, go_by: GoBy) -> list[Callable[..., Any]]:
    """The functions that `history` expects. What goes wrong comes back as a message and its kind.

    restore: brings a saved picture's settings to the tab that it was made in, for a token, and returns the tab's name;
    more: the same, for a run that begins around where it lies; go_by: has the next runs be like, or unlike, pictures.
    """
    outputs = services.outputs

    def history_state(request: dict) -> dict[str, Any]:
        """What there is besides the pictures: whether they are shown and kept, where, and what was last changed."""
        return answered(outputs, request, lambda: state_of(outputs), shows=False)

    def history_page(request: dict) -> dict[str, Any]:
        """PAGE pictures from `offset` on, of those that are wanted, and how many there are."""

        def page() -> dict[str, Any]:
            store, wanted = store_of(outputs), wanted_in(request)
            revision, rows = store.revision, store.page(wanted, number_in(request, "offset"), PAGE)
            return {"revision": revision, "total": store.count(wanted), "rows": [row_of(kept) for kept in rows]}

        return answered(outputs, request, page)

    def history_thumbnails(request: dict) -> dict[str, Any]:
        """Small pictures as base64 WebP, by number; those that are gone are left out."""

        def thumbnails() -> dict[str, Any]:
            store, made = store_of(outputs), {}
            for number in numbers_in(request)[:MOST_THUMBNAILS]:
                try:
                    made[str(number)] = base64.b64encode(store.thumbnail(number)).decode()
                except NotPossibleError:
                    made[str(number)] = ""
            return {"pictures": made}

        return answered(outputs, request, thumbnails)

    def history_picture(request: dict) -> dict[str, Any]:
        """One picture large, with all that is known of it, and its lineage."""

        def picture() -> dict[str, Any]:
            from engine.pictures.picture_files import read_picture

            store = store_of(outputs)
            kept = store.find(number_in(request))
            jpeg = picture_jpeg(read_picture(store.picture(kept.number)), SHOWN_SIDE)
            told = {"jpeg": jpeg, "has_more": has_more(services, kept), "family": family_of(store, kept)}
            return told | facts_of(kept)

        return answered(outputs, request, picture)

    def history_mark(request: dict) -> dict[str, Any]:
        """Likes pictures or not, or says the tags of one."""

        def mark() -> None:
            liked, tags = request.get("liked"), request.get("tags")
            for number in numbers_in(request):
                store_of(outputs).mark(
                    number,
                    liked=liked if isinstance(liked, bool) else None,
                    tags=tags if isinstance(tags, str) else None,
                )

        return answered(outputs, request, mark)

    def history_delete(request: dict) -> dict[str, Any]:
        """Moves pictures to the trash."""
        return answered(outputs, request, lambda: store_of(outputs).delete(numbers_in(request)))

    def history_put_back(request: dict) -> dict[str, Any]:
        """Moves pictures out of the trash."""
        return answered(outputs, request, lambda: store_of(outputs).put_back(numbers_in(request)))

    def history_empty_trash(request: dict) -> dict[str, Any]:
        """Deletes for good what is in the trash."""
        return answered(outputs, request, lambda: {"count": store_of(outputs).empty_trash()})

    def history_restore(request: dict) -> dict[str, Any]:
        """Brings back every control, in the tab that the picture was made in."""

        def bring_back() -> dict[str, Any]:
            return {"task": restore(request["token"], store_of(outputs).picture(number_in(request)))}

        return answered(outputs, request, bring_back)

    def history_more(request: dict) -> dict[str, Any]:
        """Prepares a run of more pictures like one."""

        def prepare() -> dict[str, Any]:
            store = store_of(outputs)
            kept = store.find(number_in(request))
            if not has_more(services, kept):
                raise NotPossibleError("That can only be done with generated pictures of a model without classes.")
            return {"task": more(request["token"], store.picture(kept.number))}

        return answered(outputs, request, prepare)

    def history_go_by(request: dict) -> dict[str, Any]:
        """Has the next runs be like pictures, or unlike them."""

        def prepare() -> dict[str, Any]:
            how = request.get("how")
            if how not in ("like", "unlike"):
                raise NotPossibleError("Pictures can be liked or unliked.")
            paths = [store_of(outputs).picture(number) for number in numbers_in(request)]
            return {"task": go_by(request["token"], paths, str(how))}

        return answered(outputs, request, prepare)

    def history_open(request: dict) -> dict[str, Any]:
        """Opens a picture in another tab, to be worked on there."""

        def open_() -> dict[str, Any]:
            store, task = store_of(outputs), str(request.get("to"))
            if task not in TASKS:
                raise NotPossibleError("There is no such tab.")
            kept = store.find(number_in(request))
            session = services.sessions.get(request["token"], task)
            model, prompt_model = models_for(services, kept, task)
            Opening(services, task).file(session, str(store.picture(kept.number)), model, prompt_model)
            if task == "edit" and kept.task in SHOWS_ITS_WORDS and kept.prompt:
                session.arrival = Arrival(fields={"neutral": kept.prompt})  # what it is, for the edit to come
            return {"task": task}

        return answered(outputs, request, open_)

    def history_save(request: dict) -> dict[str, Any]:
        """The path of a copy to download."""

        def save() -> dict[str, Any]:
            source = store_of(outputs).picture(number_in(request))
            return {"path": str(services.pictures.copy(source, secrets.token_hex(8)))}

        return answered(outputs, request, save)

    def history_export(request: dict) -> dict[str, Any]:
        """The path of a zip of several pictures to download."""

        def zipped() -> dict[str, Any]:
            name = f"history-{time.strftime('%Y-%m-%d-%H%M%S')}.zip"
            path = services.pictures.folder / secrets.token_hex(8) / name
            export(store_of(outputs), numbers_in(request), path)
            return {"path": str(path)}

        return answered(outputs, request, zipped)

    def history_choose(request: dict) -> dict[str, Any]:
        """Where pictures are kept from now on, and whether."""

        def choose() -> dict[str, Any]:
            outputs.choose(folder_in(request))
            return state_of(outputs)

        return answered(outputs, request, choose, shows=False)

    return [
        history_state,
        history_page,
        history_thumbnails,
        history_picture,
        history_mark,
        history_delete,
        history_put_back,
        history_empty_trash,
        history_restore,
        history_more,
        history_go_by,
        history_open,
        history_save,
        history_export,
        history_choose,
    ]


def answered(
    outputs: Outputs, request: object, act: Callable[[], dict[str, Any] | None], *, shows: bool = True
) -> dict[str, Any]:
    """What `act` returns, with an empty message; the message of what went wrong.

    shows: whether it is about pictures, which there have to be.
    """
    if not isinstance(request, dict) or not is_token(request.get("token")):
        return {"message": "This page is not connected to the studio. Reload it.", "kind": "error"}
    if not outputs.is_private:
        return {"message": NOT_HERE, "kind": "info", "is_private": False}
    if shows and outputs.store is None:
        return {"message": OFF, "kind": "info"}
    try:
        return {"message": "", **(act() or {})}
    except (ModelError, NotPossibleError, ValueError, TypeError, KeyError, OSError, OverflowError) as error:
        notice = explain(error)
        return {"message": notice.text, "kind": notice.kind}


def folder_in(request: dict) -> Path | None:
    """Where pictures are to be kept, None for nowhere. Raises NotPossibleError for what is no folder."""
    folder = request.get("folder")
    if request.get("keeps") is not True:
        return None
    if not isinstance(folder, str) or not 0 < len(folder) <= 1000 or "\x00" in folder:
        raise NotPossibleError("Write the folder's whole path.")
    return Path(folder).expanduser()


def store_of(outputs: Outputs) -> Store:
    if outputs.store is None:  # turned off meanwhile
        raise NotPossibleError(OFF)
    return outputs.store


def state_of(outputs: Outputs) -> dict[str, Any]:
    """Where the index cannot be used, that is told, and the folder can be changed."""
    store, trouble = outputs.store, outputs.trouble
    done, total = outputs.progress or (0, 0)
    told = {
        "is_private": True,
        "keeps": store is not None,
        "folder": str(store.folder if store else outputs.usual),
        "revision": 0,
        "models": [],
        "trashed": 0,
        "trouble": trouble.text if trouble else "",
        "reading": {"done": done, "total": total} if outputs.progress else None,
    }
    if store is None:
        return told
    try:
        models = [{"name": name, "label": shown_name(name)} for name in store.models()]
        known = {"revision": store.revision, "models": models, "trashed": store.count(Wanted(trashed=True))}
    except NotPossibleError as error:
        return told | {"trouble": str(error)}
    return told | known


def row_of(kept: Kept) -> dict[str, Any]:
    """What the grid needs."""
    return {"number": kept.number, "prompt": kept.prompt, "liked": kept.liked, "side": kept.side, "made": kept.made}


def facts_of(kept: Kept) -> dict[str, Any]:
    """What the large view tells."""
    told = described(kept) | row_of(kept)
    told["settings"] = json.dumps(told["settings"], indent=1, ensure_ascii=False)
    return told | {"model": shown_name(kept.model), "trashed": kept.trashed, "file": Path(kept.path).name}


def family_of(store: Store, kept: Kept) -> dict[str, Any]:
    """The lineage as a list, parents before what was made from them. missing: its beginning is not here."""
    family = store.family(kept.number)
    ids = {one.id: one.number for one in family}
    steps = [
        {"number": one.number, "parent": ids.get(one.parent), "how": one.how, "prompt": one.prompt, "side": one.side}
        for one in family
    ]
    return {"steps": steps, "missing": any(one.parent and one.parent not in ids for one in family)}


def has_more(services: Services, kept: Kept) -> bool:
    """Whether new pictures can begin around one: what a latent says of a model with classes, its settings tell too."""
    row = services.models.row(kept.model)
    return kept.task == "generate" and row is not None and not row.classes


def models_for(services: Services, kept: Kept, task: str) -> tuple[str, str]:
    """Those that made a picture, where they can do the task; else the task's own."""
    try:
        if task in look_up(services.models, kept.model).family.possible_tasks:
            return kept.model, kept.prompt_model
    except ModelError:
        pass
    usual: Any = TASKS[task]
    return usual.model, usual.prompt_model


def number_in(request: dict, name: str = "number") -> int:
    """Raises NotPossibleError for what is no number of a picture."""
    number = request.get(name)
    if type(number) is not int or not 0 <= number < 1 << 53:
        raise NotPossibleError("That is no number of a picture.")
    return number


def numbers_in(request: dict) -> list[int]:
    numbers = request.get("numbers")
    if not isinstance(numbers, list) or not 0 < len(numbers) <= MOST_CHOSEN:
        raise NotPossibleError(f"Choose between 1 and {MOST_CHOSEN} pictures.")
    return [number_in({"number": number}) for number in numbers]


def wanted_in(request: dict) -> Wanted:
    """Whatever cannot be meant is not asked for."""
    told = request.get("wanted")
    told = told if isinstance(told, dict) else {}

    def text(name: str) -> str:
        value = told.get(name)
        return value[:LONGEST] if isinstance(value, str) else ""

    def time_(name: str) -> float | None:
        value: Any = told.get(name)
        return float(value) if type(value) in (int, float) and abs(value) < LATEST else None

    return Wanted(
        words=text("words"),
        model=text("model"),
        task=text("task"),
        liked=told.get("liked") is True,
        since=time_("since"),
        until=time_("until"),
        trashed=told.get("trashed") is True,
    )

"""What the Models tab's component calls on the server. Each takes one dict from the page: nothing in it is trusted."""

from collections.abc import Callable
from typing import Any

from engine.errors import ModelError
from gmi_ui.notices import NotPossibleError, explain
from gmi_ui.services import Services
from gmi_ui.tokens import is_token

LONGEST_NAME = 4_000  # characters


def library_functions(services: Services) -> list[Callable[..., Any]]:
    """The functions that `model_library` expects. What goes wrong comes back as a message and its kind."""
    library = services.library

    def library_state(request: dict) -> dict[str, Any]:
        """Everything that the tab shows."""
        n = request.get("n") if is_ours(request) else None
        return library.state(int(n) if isinstance(n, int | float) and 1 <= n <= 1000 else 8) if is_ours(request) else {}

    def fetch_model(request: dict) -> dict[str, Any]:
        """Begins a download, or tells the conditions that have to be accepted first."""
        return answered(request, lambda: library.fetch(name_in(request), accept=request.get("accept") is True))

    def remove_model(request: dict) -> dict[str, Any]:
        """Deletes a model, or takes it from the list."""
        return answered(request, lambda: {"message": library.remove(name_in(request)), "kind": "info"})

    def unload_model(request: dict) -> dict[str, Any]:
        """Gives up a loaded model."""
        return answered(request, lambda: library.unload(name_in(request)))

    def cancel_transfer(request: dict) -> dict[str, Any]:
        """Stops what goes on, or forgets it where it is over."""
        return answered(request, lambda: library.cancel(int(request["number"])))

    def set_budget(request: dict) -> dict[str, Any]:
        """How many gigabytes loaded models may keep."""
        return answered(request, lambda: library.set_budget(request.get("gigabytes")))

    def prompt_model_names(request: dict) -> dict[str, list[str]]:
        """The tags of each architecture that open_clip knows weights of."""
        if not is_ours(request):
            return {}
        import open_clip

        names: dict[str, list[str]] = {}
        for architecture, tag in open_clip.list_pretrained():
            names.setdefault(architecture, []).append(tag)
        return names

    return [
        library_state,
        fetch_model,
        remove_model,
        unload_model,
        cancel_transfer,
        set_budget,
        prompt_model_names,
    ]


def is_ours(request: object) -> bool:
    """Whether a request comes from a page of the studio."""
    return isinstance(request, dict) and is_token(request.get("token"))


def name_in(request: dict) -> str:
    """Raises NotPossibleError for something that is no name."""
    name = request.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        raise NotPossibleError("That is no name of a model.")
    return name


def answered(request: object, act: Callable[[], Any]) -> dict[str, Any]:
    """What `act` returns, with an empty message; the message of what went wrong."""
    if not is_ours(request):
        return {"message": "This page is not connected to the studio. Reload it.", "kind": "error"}
    try:
        return {"message": "", **(act() or {})}
    except (ModelError, NotPossibleError, ValueError, TypeError, KeyError, OSError) as error:
        notice = explain(error)
        return {"message": notice.text, "kind": notice.kind}

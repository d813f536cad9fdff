"""What the head of the page calls on the server. Each takes one dict from the page, so nothing in it is trusted."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gmi_ui.components.history.functions import answered, folder_in, state_of
from gmi_ui.languages import words_of
from gmi_ui.models.library import GIGABYTE
from gmi_ui.notices import NotPossibleError
from gmi_ui.preferences import Preferences
from gmi_ui.runs.run import Run
from gmi_ui.runs.work import Work
from gmi_ui.server_functions import progress_of
from gmi_ui.services import Services
from gmi_ui.sessions import Session
from gmi_ui.tokens import is_token

TITLES = {"generate": "Generate", "edit": "Edit", "inpaint": "Inpaint", "translate": "Translate"}


class Own(NamedTuple):
    """Something that a page has going on, or lined up, and how a person knows it."""

    work: Work
    title: str
    words: str


def queue_functions(services: Services) -> list[Callable[..., Any]]:
    """The functions that `head` expects. A page sees and moves what is its own; of others, how many come before."""

    def works_of(token: str) -> Iterator[Own]:
        return (own for session in services.sessions.of(token).values() for own in own_works(session))

    def state(token: str) -> dict[str, Any]:
        in_order = services.queue.works
        found = {own.work: own for own in works_of(token)}
        mine = [found[work] for work in in_order if work in found]
        ahead = in_order.index(mine[0].work) if mine else len(in_order)
        return {"works": [_told(services, own) for own in mine], "others": ahead}

    def queue_state(request: dict) -> dict[str, Any]:
        """What the page has in the queue, in order, and how many works of other pages come before."""
        return state(request["token"]) if is_ours(request) else {}

    def queue_change(request: dict) -> dict[str, Any]:
        """Takes a work out, or has it change places with another; then as `queue_state`.

        Only works of the page itself: no other page's run waits any longer for it.
        """
        if not is_ours(request):
            return {}
        token = request["token"]
        found = {own.work.id: own.work for own in works_of(token)}
        work, other = found.get(str(request.get("id"))), found.get(str(request.get("with")))
        if work is not None and request.get("out") is True:
            work.stop()
        elif work is not None and other is not None:
            services.queue.exchange(work, other)
        return state(token)

    return [queue_state, queue_change]


def preference_functions(services: Services) -> list[Callable[..., Any]]:
    """The settings of the whole studio. Only the person at this machine sees and changes them."""
    library, outputs, models = services.library, services.outputs, services.models

    def state() -> dict[str, Any]:
        from engine.system.runtime import available_cores

        memory = library.memory()
        kept = state_of(outputs)
        choices = [{"label": label, "name": name} for label, name in models.choices(task="generate")]
        return {
            "is_private": True,
            "keeps": kept["keeps"],
            "folder": kept["folder"],
            "models": choices,
            "model": services.preferences.now.model,
            "threads": services.preferences.now.threads,
            "cores": available_cores(),
            "budget": memory["budget"] / GIGABYTE,
            "total": memory["total"] and memory["total"] / GIGABYTE,
        }

    def preferences_state(request: dict) -> dict[str, Any]:
        """What is chosen, and what can be."""
        return answered(outputs, request, state, shows=False)

    def preferences_choose(request: dict) -> dict[str, Any]:
        """Takes all of it over, or nothing where a part of it cannot be; then as `preferences_state`."""

        def choose() -> dict[str, Any]:
            chosen = request.get("chosen")
            if not isinstance(chosen, dict):
                raise NotPossibleError("The settings did not arrive whole. Press Apply once more.")
            library.check_budget(chosen.get("budget"))
            Preferences.of(chosen)
            before = state()
            if (chosen.get("keeps"), chosen.get("folder")) != (before["keeps"], before["folder"]):
                outputs.choose(folder_in(chosen))
            services.preferences.choose(chosen)
            library.set_budget(chosen.get("budget"))
            return state()

        return answered(outputs, request, choose, shows=False)

    return [preferences_state, preferences_choose]


def language_words(request: dict) -> dict[str, Any]:
    """What stands for the page's English texts in another language."""
    language = request.get("language") if is_ours(request) else None
    return {"words": dict(words_of(language if isinstance(language, str) else ""))}


def is_ours(request: object) -> bool:
    """Whether a request comes from a page of the studio."""
    return isinstance(request, dict) and is_token(request.get("token"))


def own_works(session: Session) -> Iterator[Own]:
    """All that a tab of the page has going on or lined up."""
    tab = TITLES.get(session.tab, session.tab.capitalize())
    for work in session.works:
        yield _run_in(tab, work) if isinstance(work, Run) else Own(work, tab, "the picture is being found")
    for work in session.upcoming:
        yield _run_in(tab, work)
    if session.filming is not None:
        yield Own(session.filming, "Video", f"of {tab}")
    if session.plotting is not None:
        yield Own(session.plotting, "Plot", session.plotting.plot.base.prompt)


def _run_in(tab: str, run: Run) -> Own:
    return Own(run, tab, ", ".join(filter(None, (getattr(run.settings, "domain", ""), run.settings.prompt))))


def _told(services: Services, own: Own) -> dict[str, Any]:
    told = progress_of(services, own.work) | {"title": own.title, "words": own.words}
    if isinstance(own.work, Run) and told["share"] is None and own.work.moment.sides:
        told["share"] = own.work.moment.step / own.work.total
    return told

"""What is said of a picture that a model cannot draw, and which other models could."""

import re
from collections.abc import Sequence
from pathlib import Path

from engine.families import find_family
from engine.models.public import PUBLIC_MODELS

_SAID = {
    "edit": (
        "This picture is unlike those the model was trained on, so it can only be redrawn roughly. Editing works, but "
        "expect the result to look like the reconstruction, not like the picture."
    ),
    "inpaint": (
        "This picture is unlike those the model was trained on: what it paints into it will look like those, not like "
        "the rest of the picture."
    ),
}
_MOST_NAMED = 4  # of the models that are here


def out_of_domain(task: str, model: str, installed: Sequence[str] = ()) -> str:
    """What a person should know before `model` works on a picture that is not of its kind, and what else to try.

    task: "edit" or "inpaint"; installed: names, or paths, of the models that are here and can do it.
    """
    others = [Path(name).name for name in installed if name != model][:_MOST_NAMED]
    here = f" Also here: {', '.join(others)}." if others else ""
    named = ", ".join(f"{shown} ({name})" for shown, name in to_be_fetched(task).items() if name not in installed)
    fetched = (
        f" Models of other pictures, to be fetched in the Models tab or by “models get”: {named}." if named else ""
    )
    return f"{_SAID[task]}{here}{fetched}"


def to_be_fetched(task: str) -> dict[str, str]:
    """One public model that can do a task for each kind of pictures: its name by what it shows, in a word or two.

    Of several the last: the table has those with more to them behind the others. Not those of classes, which show
    little of many things.
    """
    able = [model for model in PUBLIC_MODELS if task in find_family(model.family).possible_tasks]
    return {re.split(", | of ", one.shows)[0]: one.name for one in able if "classes" not in one.shows}

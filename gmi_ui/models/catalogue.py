"""What the Generate tab shows of a model: its family, its classes, its example prompts, what its runs begin with."""

from dataclasses import dataclass, replace

from engine.families import FAMILIES, find_family
from engine.families.declaration import Family
from engine.models.table import family_of, first_settings
from engine.settings import GenerateSettings
from gmi_ui.models.models import Models
from gmi_ui.notices import NotPossibleError

EXAMPLE_CLASSES = 4  # names of classes that are prompts where a model brings none


@dataclass(frozen=True)
class Entry:
    """One generator. first: the settings of a run with it when nothing was chosen yet; is_judged: whether a
    discriminator comes with it."""

    family: Family
    classes: tuple[str, ...]
    examples: tuple[str, ...]
    first: GenerateSettings
    is_judged: bool = False


def look_up(models: Models, name: str) -> Entry:
    """From the table of models; a person's own file is loaded for it. Raises ModelError."""
    row = models.row(name)
    if row is not None and (row.classes or not find_family(row.family).has_classes):
        examples = row.examples or _as_examples(row.classes)
        family = _for(family_of(row.family, row), row.classes)
        family = replace(family, spaces=(*family.spaces, *row.spaces))
        return Entry(family, row.classes, examples, first_settings(name, row.family, row), "discriminator" in row.files)
    model = models.generator(name)
    examples = model.examples or _as_examples(model.classes)
    family = _for(family_of(model.family, row), model.classes)
    first = first_settings(name, model.family, row)
    return Entry(family, model.classes, examples, first, model.discriminator is not None)


def check_task(name: str, family: str, task: str, usual: str) -> None:
    """Raises NotPossibleError for a generator that a task can do nothing with. usual: the one to choose instead."""
    able = [one for one, declared in FAMILIES.items() if task in declared.possible_tasks]
    if family not in able:
        raise NotPossibleError(
            f"{name} is a {family} model, which cannot {task} pictures; models of {' and '.join(able)} can. Choose "
            f"{usual}."
        )


def _for(family: Family, classes: tuple[str, ...]) -> Family:
    """Of a model with classes, one that has settings for them."""
    return family.with_classes() if classes else family


def _as_examples(classes: tuple[str, ...]) -> tuple[str, ...]:
    """The first classes as prompts; none where they only have numbers."""
    return tuple(name for name in classes[:EXAMPLE_CLASSES] if not name.isdecimal())

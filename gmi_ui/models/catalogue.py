"""What the Generate tab shows of a model: its kind, its classes, its example prompts, what its runs begin with."""

from dataclasses import dataclass

from engine.models.family_defaults import Kind, first_settings, kind_of
from engine.settings import GenerateSettings
from gmi_ui.models.models import Models

EXAMPLE_CLASSES = 4  # names of classes that are prompts where a model brings none


@dataclass(frozen=True)
class Entry:
    """One generator. first: the settings of a run with it when nothing was chosen yet."""

    kind: Kind
    classes: tuple[str, ...]
    examples: tuple[str, ...]
    first: GenerateSettings


def look_up(models: Models, name: str) -> Entry:
    """From the table of models; a person's own file is loaded for it. Raises ModelError."""
    row = models.row(name)
    if row is not None and (row.classes or not _has_classes(kind_of(row.family))):
        return Entry(kind_of(row.family), row.classes, row.examples, first_settings(name, row.family, row))
    model = models.generator(name)
    examples = model.examples or model.classes[:EXAMPLE_CLASSES]
    return Entry(kind_of(model.family), model.classes, examples, first_settings(name, model.family, row))


def _has_classes(kind: Kind) -> bool:
    return "classes" in kind.choices

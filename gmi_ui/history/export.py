"""A selection of kept pictures as one zip: the files, a contact sheet, and what is known of each as JSON."""

import json
import time
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import PictureError
from engine.system import files
from engine.version import VERSION
from gmi_ui.history.facts import Kept
from gmi_ui.history.store import Store
from gmi_ui.notices import NotPossibleError
from gmi_ui.pictures.saving import SHEET, SHEET_CELL, contact_sheet

if TYPE_CHECKING:
    from engine.pictures.picture_files import Picture

MOST, MOST_BYTES = 500, 250_000_000  # pictures of one zip, and bytes of them
LIST = "pictures.json"


def export(store: Store, numbers: Sequence[int], path: Path) -> None:
    """Writes the zip. Raises NotPossibleError for too many pictures and for one that is gone, SaveError."""
    if not 0 < len(numbers) <= MOST:
        raise NotPossibleError(f"Choose up to {MOST} pictures to export at once.")
    chosen = [store.find(number) for number in dict.fromkeys(numbers)]
    sources = [store.picture(kept.number) for kept in chosen]
    if sum(source.stat().st_size for source in sources) > MOST_BYTES:
        raise NotPossibleError(f"These pictures take more than {MOST_BYTES // 10**6} MB. Export them in smaller parts.")
    names = [f"{place:03d}_{source.name}" for place, source in enumerate(sources, 1)]
    told = {
        "program": f"gmi-studio {VERSION}",
        "exported": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "pictures": [{"file": name, **described(kept)} for name, kept in zip(names, chosen, strict=True)],
    }
    files.make_folder(path.parent)
    try:
        with files.replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(LIST, json.dumps(told, indent=1, ensure_ascii=False))
            archive.writestr(SHEET, contact_sheet([("", [small(source) for source in sources])]))
            for name, source in zip(names, sources, strict=True):
                archive.write(source, name)
    except OSError as error:
        raise files.save_error(path, error) from error


def described(kept: Kept) -> dict[str, Any]:
    """What is told of a picture, as plain JSON values."""
    facts = asdict(kept) | {"settings": json.loads(kept.settings)}
    facts["made"] = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(kept.made))
    return {name: value for name, value in facts.items() if name not in ("number", "path", "trashed")}


def small(source: Path) -> "Picture":
    """As much of a picture as a contact sheet shows. Raises NotPossibleError for a file that is none any more."""
    import numpy as np
    from PIL import Image

    from engine.pictures.picture_files import Picture, read_picture

    try:
        image = Image.fromarray(read_picture(source).pixels)
    except PictureError as error:
        raise NotPossibleError(str(error)) from error
    image.thumbnail((SHEET_CELL, SHEET_CELL), reducing_gap=2.0)
    return Picture(np.asarray(image))

"""The files that a call names: uploaded ones, and pictures that were answered. Nothing else is read, or fetched."""

from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

from gradio import FileData

from engine.errors import PictureError
from gmi_ui.temporary import upload_folder

# As gradio's clients send it once it is uploaded; or its path, or the address at which the studio serves it.
GivenFile: TypeAlias = FileData | str
SERVED = "/gradio_api/file="


def path_of(given: Any, name: str) -> Path:
    """A file of a call, which lies among the uploads. name: of the parameter.

    Raises PictureError for any other.
    """
    text = given.get("path") if isinstance(given, dict) else given
    if not isinstance(text, str) or not text:
        raise PictureError(f"{name}: expected an uploaded file.")
    if text.lower().startswith(("http:", "https:")):
        _, served, text = text.partition(SERVED)
        if not served:
            raise PictureError(f"{name}: nothing is fetched from addresses. Upload the file, and give its path.")
        text = unquote(text)
    try:
        path = Path(text).resolve()
        if path.is_relative_to(upload_folder().resolve()) and path.is_file():
            return path
    except (OSError, ValueError):  # what no path can be
        pass
    raise PictureError(
        f"{name}: there is no such uploaded file. Upload it (again), and give the path that is answered."
    )

"""Pictures that particles go towards, or keep away from: a folder of a person's own, or several files.

Pillow and numpy only.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.errors import PictureError
from engine.pictures.decoding import FORMATS_TEXT
from engine.pictures.picture_files import Picture, cut, read_picture, resized, whole_square

MOST_EXAMPLES = 300
EXAMPLE_SIDE = 256  # pixels: prompt models look at 64 to 336
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class Examples:
    """Squares of at most EXAMPLE_SIDE, each picture once, in an order that does not depend on their names.

    sha256: of the pictures as they were read, whatever their order: by it settings name them.
    """

    pictures: tuple[Picture, ...]
    sha256: str

    def __len__(self) -> int:
        return len(self.pictures)


def read_examples(files: Iterable[Path]) -> Examples:
    """The middle squares of the pictures in files. Raises PictureError for a broken one, for none, for too many."""
    paths = list(files)
    _check_count(len(paths), "Pictures to go by")
    return examples_of(map(read_picture, paths))


def examples_of(pictures: Iterable[Picture]) -> Examples:
    """Their middle squares."""
    squares: dict[str, Picture] = {}
    for picture in pictures:
        if picture.sha256 not in squares:
            square = cut(picture.pixels, whole_square(*picture.size))
            squares[picture.sha256] = picture.with_pixels(resized(square, min(square.shape[0], EXAMPLE_SIDE)))
    digest = hashlib.sha256("".join(sorted(squares)).encode())
    return Examples(tuple(squares[key] for key in sorted(squares)), digest.hexdigest())


def read_example_folder(folder: Path) -> Examples:
    """The same of all pictures in a folder, not in those inside it. Raises PictureError, also for no folder."""
    return read_examples(_pictures_in(folder))


def read_example_files(places: Iterable[Path]) -> Examples:
    """The same of files, and of all pictures in folders among them."""
    return read_examples(path for place in places for path in (_pictures_in(place) if place.is_dir() else [place]))


def _pictures_in(folder: Path) -> list[Path]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    except FileNotFoundError as error:
        raise PictureError(f"{folder}: there is no such folder. Check its path.") from error
    except NotADirectoryError as error:
        raise PictureError(f"{folder} is a file; give the folder that holds the pictures.") from error
    except OSError as error:
        raise PictureError(f"{folder} cannot be read: {error.strerror or error}.") from error
    _check_count(len(paths), str(folder))
    return paths


def _check_count(count: int, what: str) -> None:
    if count == 0:
        raise PictureError(f"{what}: no picture there ({FORMATS_TEXT}). Give at least one.")
    if count > MOST_EXAMPLES:
        raise PictureError(f"{what}: {count:,} pictures; at most {MOST_EXAMPLES} can be gone by. Choose fewer.")

"""Pictures to go towards: which of a folder count, what names them, what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.errors import PictureError
from engine.pictures import examples
from engine.pictures.examples import EXAMPLE_SIDE, MOST_EXAMPLES, read_example_folder, read_examples


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (12, 8)) -> Path:
    """A PNG of noise, width x height."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_folder_gives_the_middle_squares_of_its_pictures(tmp_path: Path) -> None:
    path = picture(tmp_path / "wide.PNG")
    picture(tmp_path / "large.webp", seed=1, size=(300, 400))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "inside.png").mkdir()
    read = read_example_folder(tmp_path)
    sizes = {one.name: one.size for one in read.pictures}
    assert sizes == {"wide.PNG": (8, 8), "large.webp": (EXAMPLE_SIDE, EXAMPLE_SIDE)} and len(read) == 2
    (wide,) = (one for one in read.pictures if one.name == "wide.PNG")
    assert np.array_equal(wide.pixels, np.asarray(Image.open(path))[:, 2:10])


def test_their_hash_and_order_follow_from_the_pixels_alone(tmp_path: Path) -> None:
    """Not from names, order, repetition or file format; another picture changes the hash."""
    one, two = picture(tmp_path / "1.png", 1), picture(tmp_path / "2.png", 2)
    first = read_examples([one, two])
    copy = tmp_path / "0.tiff"
    Image.open(two).save(copy)
    again = read_examples([copy, one, two])
    assert again.sha256 == first.sha256 and len(first.sha256) == 64 and len(again) == 2
    for a, b in zip(first.pictures, again.pictures, strict=True):
        assert np.array_equal(a.pixels, b.pixels)
    assert read_examples([one]).sha256 != first.sha256
    assert read_examples([one, picture(tmp_path / "3.png", 3)]).sha256 != first.sha256


def test_what_cannot_be_gone_towards_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PictureError, match="there is no such folder"):
        read_example_folder(tmp_path / "nowhere")
    with pytest.raises(PictureError, match="is a file; give the folder"):
        read_example_folder(picture(tmp_path / "a.png"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(PictureError, match="no picture there"):
        read_example_folder(empty)
    with pytest.raises(PictureError, match="no picture there"):
        read_examples([])
    (empty / "broken.jpg").write_bytes(b"\xff\xd8 nothing more")
    with pytest.raises(PictureError, match="broken.jpg is not a readable picture"):
        read_example_folder(empty)
    monkeypatch.setattr(examples, "read_picture", lambda path: pytest.fail("too many are not even opened"))
    for number in range(MOST_EXAMPLES + 1):
        (empty / f"{number}.png").touch()
    with pytest.raises(PictureError, match="302 pictures; at most 300"):
        read_example_folder(empty)

"""Videos: every frame is in the file, at its time; what cannot be written says so and leaves nothing behind."""

import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.errors import PictureError, SaveError
from engine.pictures import video
from engine.pictures.film import MOST_PIXELS, Curve, Film, FilmSide
from engine.pictures.lettering import shortened_to, width_of, wrapped
from engine.pictures.png_files import Pixels
from engine.pictures.video import FRAMES_A_SECOND, HOLD, check_format, format_of, save_video

COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))


def plain(colour: tuple[int, int, int], width: int = 20, height: int = 12) -> Pixels:
    return np.full((height, width, 3), colour, np.uint8)


def shown(path: Path) -> tuple[list[Pixels], list[float]]:
    """The frames of a file and how many seconds each stays."""
    frames, seconds = [], []
    with Image.open(path) as picture:
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            frames.append(np.asarray(picture.convert("RGB")))
            seconds.append(picture.info["duration"] / 1000)
    return frames, seconds


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_frames_are_in_the_file_in_their_order(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / f"run.{kind}"
    save_video(path, map(plain, COLOURS), kind)
    frames, seconds = shown(path)
    assert len(frames) == 3 and frames[0].shape == (12, 20, 3)
    for frame, colour in zip(frames, COLOURS, strict=True):
        assert np.abs(frame.astype(int) - colour).max() <= 6  # WebP's colours are lossy
    # GIF counts hundredths of a second: a twelfth is 8 of them.
    assert seconds[:2] == pytest.approx([1 / FRAMES_A_SECOND] * 2, abs=0.004)
    assert seconds[2] == pytest.approx((1 + HOLD) / FRAMES_A_SECOND, abs=0.08)
    with Image.open(path) as picture:
        assert picture.info["loop"] == 0


def test_a_single_frame_is_a_video_too(tmp_path: Path) -> None:
    save_video(tmp_path / "one.webp", [plain(COLOURS[0])], "webp")
    assert len(shown(tmp_path / "one.webp")[0]) == 1


def test_mp4_gets_every_frame_and_holds_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    def write_frames(path: str, size: tuple[int, int], **options: Any) -> Generator[None, bytes, None]:
        assert size == (20, 12) and options["fps"] == FRAMES_A_SECOND and options["macro_block_size"] == 2
        while True:
            sent.append((yield))

    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", SimpleNamespace(write_frames=write_frames))
    monkeypatch.setattr(video, "has_mp4", lambda: True)
    save_video(tmp_path / "run.mp4", map(plain, COLOURS), check_format("mp4"))
    assert sent == [plain(colour).tobytes() for colour in (*COLOURS, *[COLOURS[2]] * HOLD)]


def test_mp4_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PictureError, match="pip install"):
        format_of(Path("run.mp4"))
    assert format_of(Path("run.GIF")) == "gif"
    with pytest.raises(PictureError, match=r"run\.avi.*\.webp, \.gif or \.mp4"):
        format_of(Path("run.avi"))


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_a_failure_in_the_middle_leaves_no_file(kind: Any, tmp_path: Path) -> None:
    def broken() -> Iterator[Pixels]:
        yield plain(COLOURS[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_video(tmp_path / f"run.{kind}", broken(), kind)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="no space is left"):
        save_video(tmp_path / "run.webp", map(plain, COLOURS), "webp")
    assert not list(tmp_path.iterdir())


# ---- the frames ------------------------------------------------------------------------------------------


def noise(count: int, width: int, height: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def places_of(picture: Pixels, frame: Pixels) -> list[tuple[int, int]]:
    """Where a picture lies in a frame, pixel for pixel: (top, left)."""
    height, width = picture.shape[:2]
    corners = np.argwhere((frame[:, :, :] == picture[0, 0]).all(2))
    return [(y, x) for y, x in corners if np.array_equal(frame[y : y + height, x : x + width], picture)]


def test_a_frame_shows_every_picture_once_in_reading_order() -> None:
    sides = [FilmSide("Ours", [Curve("Text", [0.1, 0.2])]), FilmSide("Baseline", [Curve("Text", [0.1, 0.3])])]
    film = Film(sides, 4, (100, 120), 1, "a hat")
    pictures = [noise(4, 100, 120, seed) for seed in (1, 2)]
    frame = film.draw(pictures, 1)
    assert frame.shape == (film.frame[1], film.frame[0], 3)
    found = [[places_of(picture, frame) for picture in side] for side in pictures]
    assert all(len(places) == 1 for side in found for places in side)
    ours, beside = ([places[0] for places in side] for side in found)
    assert ours == sorted(ours) and max(left for _, left in ours) < min(left for _, left in beside)


@pytest.mark.parametrize("count", [1, 2, 5, 8, 17, 64])
@pytest.mark.parametrize("size", [(32, 32), (256, 256), (1024, 1024), (1600, 400)])
@pytest.mark.parametrize("sides", [1, 2])
def test_frames_have_even_sides_and_are_not_too_large(count: int, size: tuple[int, int], sides: int) -> None:
    film = Film([FilmSide("A", [Curve("B", [0.0])] * 3)] * sides, count, size, 10)
    width, height = film.frame
    assert width % 2 == height % 2 == 0 and width * height <= MOST_PIXELS + 2 * (width + height)
    assert film.rows * film.columns >= count > (film.rows - 1) * film.columns


def test_curves_grow_with_the_steps() -> None:
    curve = Curve("Text", [1.0, 2.0, 3.0], first=5)
    assert [list(curve.until(step)) for step in (4, 5, 6, 9)] == [[1.0], [1.0], [1.0, 2.0], [1.0, 2.0, 3.0]]
    film = Film([FilmSide("A", [Curve("B", [0.0, 1.0, 0.0, 1.0])])], 1, (64, 64), 3)
    pictures = [noise(1, 64, 64)]
    drawn = [film.draw(pictures, step) for step in range(4)]
    inked = [int((frame != 255).any(2).sum()) for frame in drawn]
    assert inked[3] > inked[2] > inked[1]


def test_words_fit_their_room() -> None:
    words = "a woman with pink hair, sunglasses and a very large hat"
    for width in (40, 120, 300):
        line = shortened_to(words, 14, width)
        assert width_of(line, 14) <= width and (line == words or line.endswith("..."))
        lines = wrapped(words, 14, width, 3)
        assert len(lines) <= 3 and all(width_of(one, 14) <= width for one in lines)
    assert shortened_to(words, 14, 4000) == words == " ".join(wrapped(words, 14, 200, 9))
    assert shortened_to("", 14, 50) == "" and wrapped("", 14, 50, 2) == [""]

"""--video on the command line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine import __main__ as cli

pytestmark = pytest.mark.usefixtures("tiny_bundle")


def generate(folder: Path, *more: str) -> int:
    options = ["--n", "3", "--steps", "4", "--seed", "5", "--threads", "1", "--out", str(folder / "out")]
    return cli.main(["generate", "a smile", *options, *more])


def frames_of(path: Path) -> list[np.ndarray]:
    with Image.open(path) as picture:
        frames = []
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            frames.append(np.asarray(picture.convert("RGB")).astype(int))
        return frames


def test_a_video_has_a_frame_for_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(tmp_path, "--baseline", "--video", str(tmp_path / "run.webp")) == 0
    both = frames_of(tmp_path / "run.webp")
    assert len(both) == 5  # the start, and after each of 4 steps
    assert "run.webp" in capsys.readouterr().err
    assert generate(tmp_path, "--overwrite", "--video", str(tmp_path / "run.gif"), "--video-plain") == 0
    plain = frames_of(tmp_path / "run.gif")
    assert plain[0].shape[1] < both[0].shape[1]  # one side, without curves


def test_one_picture_alone_is_the_saved_one_at_the_end(tmp_path: Path) -> None:
    picked = ["--video", str(tmp_path / "one.webp"), "--video-picture", "1", "--video-plain"]
    assert generate(tmp_path, *picked) == 0
    last = frames_of(tmp_path / "one.webp")[-1]
    saved = Image.open(tmp_path / "out/01.png").convert("RGB")
    others = [Image.open(tmp_path / f"out/{i:02d}.png").convert("RGB") for i in (0, 2)]
    side = 96  # of small pictures in frames
    left, top = (last.shape[1] - side) // 2, 50
    shown = last[top : top + side, left : left + side]

    def distance(picture: Image.Image) -> float:
        large = np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS)).astype(int)
        return float(np.abs(shown - large).mean())

    assert distance(saved) < 6 < min(map(distance, others))  # WebP is lossy


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--video", "run.avi"], ".webp, .gif or .mp4"),
        (["--video-plain"], "--video FILE"),
        (["--video", "run.webp", "--video-picture", "3"], "outside 0 to 2"),
    ],
)
def test_what_cannot_be_is_said_before_the_run(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(tmp_path, *options) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_mp4_without_its_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert generate(tmp_path, "--video", str(tmp_path / "run.mp4")) == 2
    assert "imageio-ffmpeg" in capsys.readouterr().err

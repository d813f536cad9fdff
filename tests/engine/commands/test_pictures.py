"""`edit`, `inpaint`, `invert` and `directions` as a person runs them: files, figures, messages, exit codes."""

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine import __main__ as cli
from engine.checkpoints import read_safetensors, verify
from engine.models.loading import load_generator
from engine.pictures import picture_files, png_files
from engine.pictures.masks import decode_mask
from engine.settings import EditSettings, InpaintSettings, TranslateSettings, settings_from_dict
from engine.tasks import inversion
from tests.engine.conftest import use_bundle
from tests.engine.encoder_files import write_encoder_file
from tests.engine.tiny import write_clip, write_filler, write_translator

pytestmark = pytest.mark.usefixtures("tiny_bundle")

RUN = ["--n", "2", "--steps", "2", "--seed", "5", "--threads", "1", "--inversion-steps", "3"]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """40 x 28, as JPEG."""
    path = tmp_path / "mine.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (28, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    path = tmp_path / "mask.png"
    pixels = np.zeros((28, 40), np.uint8)
    pixels[8:20, 10:24] = 255
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_edit(picture: Path, tmp_path: Path) -> None:
    assert run("directions", "--space", "w", "--count", "20") == 0
    out = tmp_path / "out"
    assert run("edit", picture, "a smile", "--neutral", "a face", "--out", out, "--baseline", *RUN) == 0
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == [
        "00.png", "01.png", "baseline/00.png", "baseline/01.png", "run.json",
    ]  # fmt: skip
    report = json.loads((out / "run.json").read_text())
    settings = settings_from_dict(report["settings"])
    assert isinstance(settings, EditSettings) and (settings.neutral, settings.baseline) == ("a face", "no repulsion")
    assert report["picture"]["name"] == "mine.jpg" and report["picture"]["size"] == [40, 28]
    for side in ("ours", "baseline"):
        assert len(report[side]["distance_to_original"]) == len(report[side]["text_scores"]) == 2
    assert report["seconds_per_step"] > 0 and 0 <= report["distance_of_reconstruction"] <= 1
    written = png_files.read_metadata(out / "01.png")
    assert (written["seeds"], written["index"]) == ([5, 6], 1)
    assert settings_from_dict(written["settings"]) == settings


@pytest.mark.parametrize("method", ["clip", "optimise", "direction"])
def test_other_methods(picture: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.tasks import styleclip

    monkeypatch.setattr(styleclip, "STATISTICS_SAMPLES", 20)
    if method == "direction":
        assert run("directions", "--space", "s", "--count", "1") == 0
    assert run("edit", picture, "a smile", "--method", method, "--out", tmp_path / "out", *RUN) == 0
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert report["settings"]["method"] == method and "baseline" not in report


@pytest.mark.parametrize("prompt", [[], ["a smile"]])
def test_inpaint(picture: Path, mask: Path, tmp_path: Path, prompt: list[str]) -> None:
    out = tmp_path / "out"
    assert run("inpaint", picture, mask, *prompt, "--out", out, "--baseline", "--feather", "2", *RUN) == 0
    report = json.loads((out / "run.json").read_text())
    assert isinstance(settings_from_dict(report["settings"]), InpaintSettings)
    upload, painted = np.asarray(Image.open(picture)), np.asarray(Image.open(mask)) > 0
    for side, folder in (("ours", out), ("baseline", out / "baseline")):
        assert report[side]["known_pixels_changed"] == 0
        assert report[side]["hole_diversity"] > 0 and len(report[side]["distance_to_original"]) == 2
        for index in range(2):
            result = np.asarray(Image.open(folder / f"{index:02d}.png"))
            assert np.array_equal(result[~painted], upload[~painted])
            assert (result[painted] != upload[painted]).any()


@pytest.mark.parametrize("prompt", [[], ["a smile"]])
def test_inpaint_by_a_model_that_fills_holes(
    picture: Path, mask: Path, tmp_path: Path, prompt: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is inverted; the baseline is what the model alone fills in."""
    model, out = write_filler(tmp_path / "filler"), tmp_path / "out"
    options = [*RUN, "--model", model, "--feather", "0"]
    assert run("inpaint", picture, mask, *prompt, "--out", out, "--baseline", *options) == 0
    assert "invert" not in capsys.readouterr().err
    report = json.loads((out / "run.json").read_text())
    assert settings_from_dict(report["settings"]).prompt_model == "clip-mini"
    assert "distance_of_reconstruction" not in report and report["picture"]["size"] == [40, 28]
    upload, painted = np.asarray(Image.open(picture)), np.asarray(Image.open(mask)) > 0
    for side, folder in (("ours", out), ("baseline", out / "baseline")):
        assert report[side]["known_pixels_changed"] == 0 and len(report[side]["realism_logits"]) == 2
        assert len(report[side]["realism"]) == 3
        result = np.asarray(Image.open(folder / "01.png"))
        assert np.array_equal(result[~painted], upload[~painted]) and (result[painted] != upload[painted]).any()
    assert len(set(report["baseline"]["realism"])) == 1 < len(set(report["ours"]["realism"]))
    alone = png_files.read_metadata(out / "baseline" / "00.png")["settings"]
    assert settings_from_dict(alone).flow.until == 0


def test_the_prompt_model_is_that_of_the_model_where_it_has_one(
    picture: Path, mask: Path, tmp_path: Path, tiny_assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = tmp_path / "assets"
    shutil.copytree(tiny_assets, assets)
    write_filler(assets / "filler", prompt_model="clip-other")
    write_clip(assets / "clip-other", name="clip-other")
    use_bundle(assets, monkeypatch)
    assert run("inpaint", picture, mask, "--model", "filler", "--out", tmp_path / "out", *RUN) == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["prompt_model"] == "clip-other"


def test_a_model_without_its_discriminator_says_so(
    picture: Path, mask: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_filler(tmp_path / "bare", judged=False) / "generator.safetensors"
    assert run("inpaint", picture, mask, "--model", model, "--out", tmp_path / "out", *RUN) == 0
    assert "note: This model comes without its discriminator." in capsys.readouterr().err
    assert "realism" not in json.loads((tmp_path / "out" / "run.json").read_text())["ours"]


@pytest.mark.parametrize("guided", [False, True])
def test_translate(picture: Path, mask: Path, tmp_path: Path, guided: bool, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = write_translator(tmp_path / "translator"), tmp_path / "out"
    given = ["--reference", picture, "--reference", mask] if guided else []
    options = [*RUN[: RUN.index("--inversion-steps")], "--model", model]
    assert run("translate", picture, "--to", "short", *given, "--out", out, "--baseline", *options) == 0
    report = json.loads((out / "run.json").read_text())
    settings = settings_from_dict(report["settings"])
    assert isinstance(settings, TranslateSettings)
    assert (settings.domain, bool(settings.references), settings.baseline) == ("short", guided, "plain")
    assert len(report.get("references", [])) == len(given) / 2
    for side in ("ours", "baseline"):
        assert len(report[side]["domain_logits"]) == len(report[side]["distance_to_original"]) == 2
    assert np.asarray(Image.open(out / "baseline" / "00.png")).shape == (32, 32, 3)
    extra = png_files.read_metadata(out / "01.png")["extra"]
    assert extra["text"] == "mine.jpg" and ("references" in extra) == bool(given)
    assert run("translate", picture, "--to", "purple", "--out", tmp_path / "no", *options) == 2
    assert "error: to: translator does not know 'purple'; choose one of long, short." in capsys.readouterr().err


def test_a_square_of_the_picture_is_translated(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = write_translator(tmp_path / "translator"), tmp_path / "out"
    options = [*RUN[: RUN.index("--inversion-steps")], "--model", model, "--out", out]
    with Image.open(picture) as opened:
        width, height = opened.size
        part = np.asarray(opened.convert("RGB"))[2:18, 1:17]
    assert run("translate", picture, "--square", "1,2,16", *options) == 0
    assert png_files.read_metadata(out / "00.png")["extra"]["text"] == "mine.jpg"
    told = json.loads((out / "run.json").read_text())["picture"]
    assert told["sha256"] == picture_files.Picture(part).sha256
    for asked, said in (
        ("1,2", "expected LEFT,TOP,SIDE in pixels"),
        (f"{width},0,9", f"has {width} x {height} pixels"),
    ):
        assert run("translate", picture, "--square", asked, *options) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", ["edit", "inpaint", "invert", "directions", "generate"])
def test_what_a_translator_cannot_do_is_said(
    picture: Path, mask: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rest: dict[str, list[object]] = {"edit": [picture, "a smile"], "inpaint": [picture, mask], "generate": ["a smile"]}
    out = [] if command == "directions" else ["--out", tmp_path / ("out.png" if command == "invert" else "out")]
    words = rest.get(command, [picture] if command == "invert" else [])
    assert run(command, *words, *out, "--model", write_translator(tmp_path / "translator"), "--threads", "1") == 2
    said = capsys.readouterr().err
    assert "only a StyleGAN2 can edit pictures" in said or "works on pictures and draws none of its own" in said


def test_a_public_model_that_is_not_here_says_how_to_get_it(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GMI_MODELS", str(tmp_path / "models"))
    options = ["--out", tmp_path / "out", "--threads", "1", "--model", "starganv2-afhq"]
    assert run("translate", picture, *options) == 2
    assert "`python -m engine models get starganv2-afhq` fetches it." in capsys.readouterr().err


@pytest.mark.parametrize("command", ["edit", "inpaint", "invert"])
def test_transparency_is_kept_and_the_background_chosen(
    mask: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is transparent stays so, where it is not repainted; what the models see there is the background."""
    layer = np.random.default_rng(0).integers(0, 256, (28, 40, 4), dtype=np.uint8)
    layer[:, 20:, 3], layer[:, :6, 3] = 255, 0
    path, out = tmp_path / "mine.png", tmp_path / ("out.png" if command == "invert" else "out")
    Image.fromarray(layer).save(path)
    rest: dict[str, list[object]] = {"edit": ["a smile", "--method", "clip"], "inpaint": [mask], "invert": []}
    options = RUN if command != "invert" else ["--inversion-steps", "2"]
    assert run(command, path, *rest[command], "--out", out, "--background", "navy", *options) == 0
    result = np.asarray(Image.open(out if command == "invert" else out / "00.png"))
    assert result.shape[2] == 4
    if command == "inpaint":
        painted = np.asarray(Image.open(mask)) > 0
        assert np.array_equal(result[~painted], layer[~painted])
        assert (result[12:16, 14:20, 3] == 255).all()  # what is repainted is opaque
    else:
        assert result.shape[:2] == (16, 16) and (result[:, -1, 3] == 255).all()
    assert run(command, path, *rest[command], "--out", out, "--background", "nothing", *options) == 2
    assert "background: 'nothing' is no colour" in capsys.readouterr().err


def test_what_the_pictures_carry(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mask as it was understood, which is said; the name of the picture."""
    hole = np.full((14, 20, 4), 255, np.uint8)
    hole[4:10, 5:12, 3] = 0
    Image.fromarray(hole).save(tmp_path / "hole.png")
    assert run("inpaint", picture, tmp_path / "hole.png", "--out", tmp_path / "out", *RUN) == 0
    shown = capsys.readouterr().err
    assert "note: Of hole.png, the transparent part is repainted (15 %)" in shown and "resized to" in shown
    extra = png_files.read_metadata(tmp_path / "out" / "00.png")["extra"]
    mask = decode_mask(base64.b64decode(extra["mask"]), (40, 28))
    assert mask[8:20, 10:24].all() and mask.sum() == 12 * 14 and extra["text"] == "mine.jpg"


def test_a_mask_too_large_to_be_carried_is_said_and_left_out(
    picture: Path, mask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("engine.tasks.start_metadata.inpaint_extras", lambda *_: {"mask": "m" * 600_000, "text": "x"})
    assert run("inpaint", picture, mask, "--out", tmp_path / "out", *RUN) == 0
    assert "note: The mask is too detailed" in capsys.readouterr().err
    assert png_files.read_metadata(tmp_path / "out" / "01.png")["extra"] == {
        "text": "x", "threads": torch.get_num_threads(), "left_out": ["mask"],
    }  # fmt: skip


def test_the_same_command_twice_gives_the_same_bytes(picture: Path, mask: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert run("inpaint", picture, mask, "a smile", "--out", tmp_path / name, *RUN) == 0
    for index in range(2):
        name = f"{index:02d}.png"
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_invert(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("invert", picture, "--out", tmp_path / "a" / "w.safetensors", "--inversion-steps", "3") == 0
    assert capsys.readouterr().out.startswith("distance 0.")
    assert read_safetensors(tmp_path / "a" / "w.safetensors")["latents"].shape == (6, 8)
    assert run("invert", picture, "--out", tmp_path / "redrawn.png", "--inversion-steps", "3") == 0
    assert Image.open(tmp_path / "redrawn.png").size == (16, 16)


def test_a_picture_of_16_bits_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.full((20, 20), 700, np.uint16)).save(tmp_path / "deep.png")
    assert run("invert", tmp_path / "deep.png", "--out", tmp_path / "w.safetensors", "--inversion-steps", "0") == 0
    assert "note: deep.png has more than 8 bits a colour" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["w.safetensors", "redrawn.png"])
def test_a_disk_that_is_full_after_the_search(
    name: str, picture: Path, tmp_path: Path, full_disk: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("invert", picture, "--out", tmp_path / name, "--inversion-steps", "0") == 2
    assert f"{name} could not be saved: no space is left on the disk. Free some" in capsys.readouterr().err


def test_a_file_with_its_encoder_edits_and_repaints(picture: Path, mask: Path, tmp_path: Path) -> None:
    """The search begins at what its encoder finds, which a search of no steps shows; and twice gives the same bytes."""
    model = write_encoder_file(tmp_path / "e4e.pt")
    none = ["--inversion-steps", "0"]
    assert run("invert", picture, "--out", tmp_path / "w.safetensors", "--model", model, *none) == 0
    kept = read_safetensors(tmp_path / "w.safetensors")
    loaded = load_generator(str(model))
    box = inversion.find_box(picture_files.read_picture(picture), loaded)
    target, known = inversion._target(picture_files.read_picture(picture), box, None, loaded)
    found = inversion.start_from_ws(inversion.Renderer(loaded), inversion.guess(loaded, target, known))
    torch.testing.assert_close(kept["latents"], found.latents)
    torch.testing.assert_close(kept["residual"], found.residual)
    for name in ("first", "second"):
        edit = ["edit", picture, "a smile", "--method", "clip", "--out", tmp_path / name, "--model", model]
        assert run(*edit, *RUN) == 0
    for index in range(2):
        name = f"{index:02d}.png"
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert run("inpaint", picture, mask, "--out", tmp_path / "filled", "--model", model, *RUN) == 0
    assert json.loads((tmp_path / "filled" / "run.json").read_text())["ours"]["known_pixels_changed"] == 0


@pytest.mark.parametrize("by", ["invert", "another program"])
def test_an_edit_begins_at_a_saved_w(by: str, picture: Path, tmp_path: Path) -> None:
    """What `invert` kept gives the same pictures as the search itself."""
    edit = ["a smile", "--method", "clip", *RUN]
    if by == "invert":
        saved = tmp_path / "w.safetensors"
        assert run("invert", picture, "--out", saved, "--inversion-steps", "3") == 0
        assert run("edit", picture, *edit, "--out", tmp_path / "found") == 0
    else:
        saved = tmp_path / "projected_w.npz"
        np.savez(saved, w=np.ones((1, 6, 8), np.float32))
    assert run("edit", saved, *edit, "--out", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert report["start"] == {"name": saved.name, "sha256": verify(saved)} and "picture" not in report
    assert len(report["ours"]["distance_to_original"]) == 2
    if by == "invert":
        for name in ("00.png", "01.png"):
            theirs, ours = (tmp_path / folder / name for folder in ("found", "out"))
            assert np.array_equal(np.asarray(Image.open(ours)), np.asarray(Image.open(theirs)))
            carried = [png_files.read_metadata(path)["extra"] for path in (ours, theirs)]
            assert carried[0] == {**carried[1], "text": "w.safetensors"}


def test_progress_and_the_domain_are_said(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("invert", picture, "--out", tmp_path / "w.safetensors", "--inversion-steps", "2") == 0
    shown = capsys.readouterr().err
    assert "invert   [##############################] 2/2" in shown
    assert "unlike those the model was trained on" in shown


def test_directions_are_written_where_they_are_looked_for(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("directions", "--space", "w", "--count", "20") == 0
    (path,) = (cache / "directions").iterdir()
    assert capsys.readouterr().out.strip() == str(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["edit", "{gone}", "x"], "there is no such file"),
        (["edit", "{text}", "x"], "not a readable picture"),
        (["edit", "{video}", "x"], "is a video"),
        (["edit", "{w}", "x"], "w.npy holds 18 w of 512 numbers, but avatars draws from 6 w of 8"),
        (["inpaint", "{w}", "{picture}"], "w.npy holds no picture but the w of one, at which only `edit` can begin"),
        (["edit", "{picture}", ""], "prompt: is empty"),
        (["edit", "{picture}", "x", "--method", "magic"], "method: 'magic' is unknown; choose one of gmi"),
        (["edit", "{picture}", "x", "--baseline", "best"], "baseline: 'best' is unknown"),
        (["edit", "{picture}", "x", "--strength", "9"], "strength: 9.0 is outside"),
        (["edit", "{picture}", "x"], "python -m engine directions --space w"),
        (["edit", "{picture}", "x", "--inversion-steps", "-1"], "inversion_steps: -1 is outside"),
        (["inpaint", "{picture}", "{picture}"], None),
        (["inpaint", "{picture}", "{small}"], "has 4 x 3 pixels, but the picture has 40 x 28"),
        (["inpaint", "{picture}", "{black}"], "nothing to repaint"),
        (["inpaint", "{picture}", "{gone}"], "there is no such file"),
        (["inpaint", "{picture}", "{picture}", " "], "prompt: is empty"),
        (["invert", "{text}"], "not a readable picture"),
        (["invert", "{picture}"], "must end in .safetensors"),
    ],
)
def test_bad_input_is_explained(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str | None
) -> None:
    names = {"picture": picture, **{name: tmp_path / name for name in ("gone", "text", "video", "small", "black")}}
    names["w"] = tmp_path / "w.npy"
    np.save(names["w"], np.ones((18, 512), np.float32))
    names["text"].write_text("no picture at all")
    names["video"].write_bytes(b"\0\0\0\x20ftypisom" + bytes(99))
    Image.new("L", (4, 3), 255).save(names["small"], "PNG")
    Image.new("L", (40, 28), 0).save(names["black"], "PNG")
    filled = [argument.format(**names) for argument in arguments]
    options = RUN if arguments[0] != "invert" else []
    if "--inversion-steps" in arguments:
        options = options[:-2]
    out = tmp_path / ("out.png" if arguments == ["invert", "{text}"] else "out")
    code = run(*filled, "--out", out, *options)
    if message is None:
        assert code == 0
        return
    shown = capsys.readouterr().err
    assert code == 2 and "error: " in shown and message in shown
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_too_few_pictures_for_directions_are_told(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for space, count in (("w", "0"), ("w", "1"), ("s", "-3"), ("both", "1")):
        assert run("directions", "--space", space, "--count", count) == 2
        assert f"error: count: {count} is too small" in capsys.readouterr().err
    assert not (cache / "directions").exists()


def test_only_a_bundled_model_has_a_folder_for_them(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes((tiny_bundle / "avatars" / "generator.safetensors").read_bytes())
    assert run("directions", "--bundle", "--model", own) == 2
    assert "leave --bundle out" in capsys.readouterr().err

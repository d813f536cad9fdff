"""The command line, run as a person runs it: files, bytes, messages, exit codes."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine import __main__ as cli
from engine.checkpoints import write_safetensors
from engine.inference.flow import DivergenceError
from engine.models.loading import load_generator, load_prompt_model
from engine.pictures import picture_files, png_files
from engine.settings import SAMPLERS, GenerateSettings
from engine.system import files
from tests.engine.conftest import use_bundle
from tests.engine.tiny import CLIP_CONFIG, write_reader

PROMPT = "a smile"
OPTIONS = ["--n", "3", "--steps", "4", "--seed", "5", "--threads", "1"]


pytestmark = pytest.mark.usefixtures("tiny_bundle")


def generate(out: Path, *more: str, prompt: str = PROMPT) -> int:
    return cli.main(["generate", prompt, "--out", str(out), *OPTIONS, *more])


def test_generate_writes_pictures_and_a_report(tmp_path: Path, tiny_assets: Path) -> None:
    assert generate(tmp_path, "--baseline", "--diversity", "0.7") == 0
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    pictures = {f"{folder}{i:02d}.png" for folder in ("", "baseline/") for i in range(3)}
    assert names == pictures | {"run.json"}
    report = json.loads((tmp_path / "run.json").read_text())
    settings = GenerateSettings.from_dict(report["settings"])
    assert (settings.n, settings.seed, settings.flow.steps, settings.flow.diversity) == (3, 5, 4, 0.7)
    assert report["seconds_per_step"] > 0 and report["threads"] == 1
    assert png_files.threads_of(png_files.read_metadata(tmp_path / "00.png")) == 1
    assert report["models"] == {
        "avatars": load_generator("avatars", assets=tiny_assets).sha256,
        "clip-mini": load_prompt_model("clip-mini", assets=tiny_assets).sha256,
    }


def test_scores_are_those_of_the_final_pictures(tmp_path: Path, tiny_assets: Path) -> None:
    """text_scores and diversity recomputed from the written PNGs: equal up to the rounding to 8 bits."""
    generate(tmp_path, "--baseline")
    report = json.loads((tmp_path / "run.json").read_text())
    model = load_prompt_model("clip-mini", assets=tiny_assets)
    for side, folder in (("ours", tmp_path), ("baseline", tmp_path / "baseline")):
        pixels = np.stack([np.asarray(Image.open(folder / f"{i:02d}.png")) for i in range(3)])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.no_grad():
            features = model.image_features(images)
        scores = (features @ model.text_features([PROMPT]).T)[:, 0]
        assert report[side]["text_scores"] == pytest.approx(scores.tolist(), abs=0.02)
        pairs = 1 - (features @ features.T)[np.triu_indices(3, 1)]
        assert report[side]["diversity"] == pytest.approx(pairs.mean().item(), abs=0.02)


def test_the_same_command_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert generate(tmp_path / name, "--baseline") == 0
    pictures = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*.png"))
    assert len(pictures) == 6
    for path in pictures:
        assert (tmp_path / "first" / path).read_bytes() == (tmp_path / "second" / path).read_bytes()
    first, second = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("first", "second"))
    del first["seconds_per_step"], second["seconds_per_step"]
    assert first == second


def test_pictures_carry_their_settings(tmp_path: Path) -> None:
    generate(tmp_path, "--baseline")
    ours, baseline = (png_files.read_metadata(tmp_path / name) for name in ("02.png", "baseline/02.png"))
    assert (ours["seeds"], ours["index"]) == ([5, 6, 7], 2)
    assert ours["settings"] == json.loads((tmp_path / "run.json").read_text())["settings"]
    assert GenerateSettings.from_dict(baseline["settings"]).flow.diversity == 0


def test_pictures_are_saved_larger_with_the_same_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, scale in (("plain", "1"), ("large", "2")):
        assert generate(tmp_path / name, "--scale", scale) == 0
    plain, large = (Image.open(tmp_path / name / "01.png") for name in ("plain", "large"))
    expected = plain.resize((2 * plain.width, 2 * plain.height), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(large), np.asarray(expected))
    small, big = (png_files.read_metadata(tmp_path / name / "01.png") for name in ("plain", "large"))
    assert big["extra"].pop("scale") == 2 and big == small
    monkeypatch.setattr(picture_files, "MAX_PIXELS", 4 * plain.width * plain.height)
    assert generate(tmp_path / "too-large", "--scale", "4") == 0
    assert "saved as they are" in capsys.readouterr().err
    assert Image.open(tmp_path / "too-large" / "01.png").size == plain.size
    assert "scale" not in png_files.read_metadata(tmp_path / "too-large" / "01.png").get("extra", {})


def test_ours_and_baseline_differ_from_the_same_start(tmp_path: Path) -> None:
    generate(tmp_path, "--baseline", "--diversity", "1")
    ours, baseline = (np.asarray(Image.open(tmp_path / name)) for name in ("00.png", "baseline/00.png"))
    assert not np.array_equal(ours, baseline)


@pytest.fixture
def with_examples(tiny_bundle: Path, damaged_assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny models, of which avatars comes with features of twelve examples."""
    folder, model = damaged_assets / "avatars", load_prompt_model("clip-mini", assets=damaged_assets)
    features = torch.randn(12, CLIP_CONFIG["model_cfg"]["embed_dim"], generator=torch.Generator().manual_seed(4))
    sha256 = write_safetensors(folder / "references.safetensors", {model.sha256: features}, dtype=torch.float16)
    row = json.loads((folder / "model.json").read_text())
    row["files"]["references"] = {"path": "references.safetensors", "sha256": sha256}
    (folder / "model.json").write_text(json.dumps(row))
    use_bundle(damaged_assets, monkeypatch)


@pytest.mark.parametrize("prompt", ["", " \n"])
@pytest.mark.usefixtures("with_examples")
def test_without_words_pictures_are_to_look_real(
    prompt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No score is told; how like the examples each step is, is. Beside it the model alone, which is step 0."""
    assert generate(tmp_path, "--baseline", prompt=prompt) == 0
    told = capsys.readouterr().err
    assert (
        "note: Without words: towards what the discriminator of avatars takes for real and its 12 examples, and" in told
    )
    report = json.loads((tmp_path / "run.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert GenerateSettings.from_dict(report["settings"]).prompt == ""
    for side in ("ours", "baseline"):
        assert set(report[side]) == {"diversity", "frechet", "precision"}  # three pictures have no recall
        assert len(report[side]["frechet"]) == len(report[side]["precision"]) == 5
    assert len(set(report["baseline"]["frechet"])) == 1 < len(set(report["ours"]["frechet"]))
    baseline = png_files.read_metadata(tmp_path / "baseline/01.png")
    assert GenerateSettings.from_dict(baseline["settings"]).flow.until == 0
    assert (tmp_path / "00.png").read_bytes() != (tmp_path / "baseline/00.png").read_bytes()


@pytest.mark.usefixtures("with_examples")
@pytest.mark.parametrize("preset", SAMPLERS)
@pytest.mark.parametrize("prompt", ["", PROMPT])
def test_samplers_by_the_discriminator_run_beside_the_model_alone(preset: str, prompt: str, tmp_path: Path) -> None:
    assert generate(tmp_path, "--preset", preset, "--baseline", prompt=prompt) == 0
    report = json.loads((tmp_path / "run.json").read_text())
    settings = GenerateSettings.from_dict(report["settings"])
    assert settings.preset == preset and settings.flow == replace(SAMPLERS[preset], steps=4)
    baseline = png_files.read_metadata(tmp_path / "baseline" / "00.png")["settings"]
    assert baseline["flow"]["until"] == 0
    assert (tmp_path / "00.png").read_bytes() != (tmp_path / "baseline" / "00.png").read_bytes()


@pytest.mark.parametrize("choose", ["sir", "drs", "mh"])
def test_starts_that_the_discriminator_chose_are_told_by_their_seeds(choose: str, tmp_path: Path) -> None:
    """Each can be drawn again without choosing anything."""
    chosen = ("--choose", choose, "--draws", "6", "--preset", "dgflow", "--baseline")
    assert generate(tmp_path / "chosen", *chosen) == 0
    metadata = png_files.read_metadata(tmp_path / "chosen" / "02.png")
    assert metadata["settings"]["choose"] == choose and metadata["settings"]["draws"] == 6
    seed = metadata["seeds"][2]
    again = ("--n", "1", "--seed", str(seed), "--preset", "dgflow", "--baseline")
    assert generate(tmp_path / "again", *again) == 0
    pictures = [tmp_path / name / "baseline" for name in ("chosen", "again")]
    first, second = (np.asarray(Image.open(at)) for at in (pictures[0] / "02.png", pictures[1] / "00.png"))
    assert np.abs(first.astype(int) - second).max() <= 1  # another batch rounds otherwise


@pytest.mark.parametrize("options", [("--preset", "ddls"), ("--choose", "sir")])
def test_a_model_without_a_discriminator_says_so(
    options: tuple[str, str], tmp_path: Path, tiny_assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_reader(tmp_path / "unjudged", judged=False)
    assert generate(tmp_path / "out", "--model", str(folder), "--prompt-model", "clip-mini", *options) == 2
    assert "comes without one" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.png"))


def test_a_model_that_is_told_sentences_is_judged_by_both_of_its_critics(tmp_path: Path) -> None:
    folder = write_reader(tmp_path / "reader")
    chosen = ("--model", str(folder), "--prompt-model", "clip-mini", "--preset", "dot", "--choose", "drs")
    for prompt in (PROMPT, ""):
        assert generate(tmp_path / f"out{len(prompt)}", *chosen, "--baseline", prompt=prompt) == 0
        pictures = [tmp_path / f"out{len(prompt)}" / side / "00.png" for side in ("", "baseline")]
        assert pictures[0].read_bytes() != pictures[1].read_bytes()


def test_an_unknown_divergence_is_refused_with_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(tmp_path, "--preset", "dgflow", "--divergence", "js") == 0
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["flow"]["divergence"] == "js"
    assert generate(tmp_path / "other", "--divergence", "renyi") == 2
    assert "divergence: 'renyi' is unknown; choose one of kl, reverse_kl" in capsys.readouterr().err


def test_how_much_examples_count_can_be_set_without_words_and_without_naming_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(tmp_path, "--towards-weight", "0", prompt="") == 0
    assert "towards what the discriminator of avatars takes for real, and apart" in capsys.readouterr().err
    assert generate(tmp_path, "--towards-weight", "0") != 0
    assert "towards_weight: give --towards too" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "", " "])
def test_a_random_seed_is_told_saved_and_can_be_used_again(
    seed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(tmp_path / "first", "--seed", seed) == 0
    drawn = json.loads((tmp_path / "first" / "run.json").read_text())["settings"]["seed"]
    assert f"note: --seed {drawn} was drawn." in capsys.readouterr().err
    assert drawn != 5 and png_files.read_metadata(tmp_path / "first" / "00.png")["seeds"][0] == drawn
    assert generate(tmp_path / "second", "--seed", str(drawn)) == 0
    assert (tmp_path / "first" / "00.png").read_bytes() == (tmp_path / "second" / "00.png").read_bytes()


def test_one_picture(tmp_path: Path) -> None:
    assert cli.main(["generate", PROMPT, "--out", str(tmp_path), "--n", "1", "--steps", "1"]) == 0
    report = json.loads((tmp_path / "run.json").read_text())
    assert report["ours"]["diversity"] == 0 and "baseline" not in report


def test_progress_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(tmp_path, "--baseline")
    shown = capsys.readouterr().err
    assert "\rours     [..............................] 0/4" in shown
    assert "\rbaseline [##############################] 4/4" in shown


def test_the_preset_fills_what_is_not_given(tmp_path: Path) -> None:
    assert generate(tmp_path, "--preset", "kde") == 0
    flow = json.loads((tmp_path / "run.json").read_text())["settings"]["flow"]
    assert (flow["estimator"], flow["steps"]) == ("kde", 4)


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "kind", "family", "pixels", "MB", "licence"]
    assert lines[1].split() == ["avatars", "generator", "stylegan2", "16", "10.5", "MIT"]
    assert lines[2].startswith("clip-mini  prompt     open_clip  64")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "x", "--n", "0"], "n: 0 is outside 1 to 4096"),
        (["edit", "x.png", "x", "--n", "1000"], "n: 1000 is outside 1 to 64"),
        (["generate", "x", "--seed", "-2"], "seed: -2 is outside 0 to 4294967295"),
        (["generate", "x", "--steps", "0"], "steps: 0 is outside 1 to 1000"),
        (["generate", "x", "--step-size", "1e9"], "step_size: 1000000000.0 is outside"),
        (["generate", "x", "--step-size", "nan"], "step_size: expected a number"),
        (["generate", "x", "--diversity", "-1"], "diversity: -1.0 is outside 0 to 2"),
        (["generate", "x", "--truncation", "0"], "truncation: 0.0 is outside 0.05 to 1"),
        (["generate", "x", "--stage2", "5"], "stages: avatars has none, as it has no codes; give --steps"),
        (["generate", "x", "--model", "mosaic", "--stage1", "-1"], "stage1: -1 is below 0"),
        (["generate", "x", "--classes", "coat,,bag"], "classes: a name is empty; give auto, or names such as coat,bag"),
        (["generate", "x", "--preset", "best"], "preset: 'best' is unknown; choose one of robust"),
        (["generate", "x", "--space", "v"], "space: 'v'"),
        (
            ["generate", "x", "--model", "avatar"],
            "no generator model 'avatar'; did you mean avatars? Bundled",
        ),
        (["generate", "x", "--model", "nowhere/g.pkl"], "There is no file nowhere/g.pkl"),
        (["generate", "x", "--prompt-model", "open_clip:RN5/x"], "no architecture 'RN5'; did you mean RN50"),
        (["generate", "x", "--threads", "0"], "threads: must be at least 1"),
        (["generate", "x", "--device", "toaster"], "device: 'toaster' cannot be used here"),
        (["generate", "x", "--device", "meta"], "device: 'meta' cannot be used here"),
        (["generate", "x", "--model", "m" * 300], "no generator model 'mmm"),
        (["generate", "x", "--model", "m" * 300 + ".pt"], "File name too long"),
        (["generate", "x", "--towards", "t" * 300], "File name too long"),
    ],
)
def test_bad_input_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert cli.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and message in shown
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("arguments", [[], ["paint"], ["generate"], ["generate", "x", "--n", "many", "--out", "x"]])
def test_unusable_command_lines_exit_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2


def test_what_is_cut_from_a_long_prompt_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(tmp_path, prompt="a smile " * 250) == 0
    assert "note: the prompt is longer than clip-mini reads; left out: a smile" in capsys.readouterr().err


def test_other_scripts(tmp_path: Path) -> None:
    assert generate(tmp_path, prompt="女性 🎩 с розовыми волосами") == 0
    assert png_files.read_metadata(tmp_path / "00.png")["settings"]["prompt"] == "女性 🎩 с розовыми волосами"


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
     torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")],
    ids=["python", "cpu", "gpu"],
)  # fmt: skip
def test_a_full_memory_asks_for_fewer_pictures(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("engine.commands.generate.run_tasks", fail)
    assert generate(tmp_path, "--n", "8") == 2
    assert "error: the memory is full. Make fewer pictures at once, such as --n 4" in capsys.readouterr().err
    assert generate(tmp_path, "--n", "1") == 2
    assert "Use a smaller model" in capsys.readouterr().err


def test_another_error_of_the_program_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr("engine.commands.generate.run_tasks", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        generate(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_gets_a_folder_of_its_own_or_replaces_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Never a mix of two: neither where the second has fewer pictures, nor where it has no baseline."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")  # that is no run: nothing is in the way
    assert generate(out, "--baseline") == 0
    first = contents(out)
    assert len(first) == 3 + 3 + 2 and "note: " not in capsys.readouterr().err
    assert generate(out, "--n", "2") == 0
    assert contents(out) == first
    assert sorted(contents(tmp_path / "out-2")) == ["00.png", "01.png", "run.json"]
    assert f"note: {out} holds another run, this one goes to {tmp_path / 'out-2'}" in capsys.readouterr().err
    assert generate(out, "--n", "2", "--overwrite") == 0
    assert sorted(contents(out)) == ["00.png", "01.png", "notes.txt", "run.json"] and not (out / "baseline").exists()


def test_a_run_that_fails_leaves_the_one_that_it_was_to_replace(tmp_path: Path) -> None:
    assert generate(tmp_path) == 0
    first = contents(tmp_path)
    assert generate(tmp_path, "--overwrite", "--space", "v") == 2
    assert contents(tmp_path) == first


def test_out_is_tried_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is there, but takes no file; a file; a folder where a file is meant."""
    monkeypatch.setattr("engine.commands.generate.load_models", None)  # whoever gets that far fails
    (tmp_path / "file").write_bytes(b"")
    assert generate(tmp_path / "file") == 2
    assert "file is a file; give the name of a folder" in capsys.readouterr().err
    assert generate(tmp_path / ("o" * 300)) == 2
    assert "File name too long" in capsys.readouterr().err
    assert cli.main(["models", "convert", "no.pt", "--out", str(tmp_path / "file" / "a.safetensors")]) == 2
    assert "could not be saved" in capsys.readouterr().err
    (tmp_path / "a.safetensors").mkdir()
    assert cli.main(["models", "convert", "no.pt", "--out", str(tmp_path / "a.safetensors")]) == 2
    assert "is a folder; give the name of a file" in capsys.readouterr().err

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("engine.commands.output.tempfile.TemporaryFile", refuse)
    assert generate(tmp_path) == 2
    assert "could not be saved: Permission denied. Choose another folder" in capsys.readouterr().err


def test_a_terminal_without_the_letters_of_a_name(tmp_path: Path) -> None:
    """Windows' old code page knows neither Greek nor emoji, and no console knows half a character."""
    name = "μοντέλο-🎩-\udcff.pt"
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    code = f"import sys; from engine.__main__ import main; sys.exit(main(['models', 'check', {name!r}]))"
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, b"") and b".pt" in ended.stdout


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert generate(tmp_path / "file" / "out") == 2
    assert "could not be saved" in capsys.readouterr().err


def test_a_full_disk_keeps_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk fills while the baseline is saved: ours is complete."""
    write = files.write_atomic

    def fills_up(path: Path, data: bytes) -> None:
        if path.parent.name == "baseline":
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(files, "write_atomic", fills_up)
    assert generate(tmp_path, "--baseline") == 2
    assert "no space is left on the disk" in capsys.readouterr().err
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_a_diverging_run_keeps_its_last_good_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.tasks import task

    refine = task.refine

    def diverge(problem, particles, settings):
        steps = refine(problem, particles, settings)
        last = [next(steps) for _ in range(3)][-1]
        yield last
        raise DivergenceError("The particles ran away.", "step_size", settings, last)

    monkeypatch.setattr(task, "refine", diverge)
    assert generate(tmp_path) == 2
    shown = capsys.readouterr().err
    assert "The particles ran away. Lower the step size" in shown
    assert f"The pictures of step 2 are in {tmp_path}" in shown
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_a_damaged_model_is_named(damaged_assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.safetensors"
    shutil.copy(damaged_assets / "avatars" / "generator.safetensors", own)
    own.write_bytes(own.read_bytes()[:-10])
    assert generate(tmp_path / "out", "--model", str(own)) == 2
    assert "own.safetensors is refused: it is damaged" in capsys.readouterr().err


def test_interrupting_exits_with_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.commands.generate.run_tasks", interrupt)
    assert generate(tmp_path) == 130


@pytest.mark.parametrize(("at", "sides"), [(3, ("ours",)), (6, ("ours", "baseline"))])
def test_an_interrupted_run_keeps_its_last_step_and_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    at: int,
    sides: tuple[str, ...],
) -> None:
    """Ctrl+C in the middle, of ours or of the baseline after it: the last step is there, and says which it is."""
    shown = 0

    def interrupt(label: str, done: int, total: int, seconds: float) -> None:
        nonlocal shown
        shown += label in ("ours", "baseline")
        if shown == at + 1 + (at > 4):
            raise KeyboardInterrupt

    monkeypatch.setattr("engine.commands.shared.show_bar", interrupt)
    assert generate(tmp_path / "out", "--steps", "4", "--baseline") == 130
    told = capsys.readouterr().err
    folder = tmp_path / "out" / ("" if sides == ("ours",) else "baseline")
    step = png_files.read_metadata(folder / "00.png")["settings"]["flow"]["until"]
    assert step in (1, 2, 3)
    assert f"Interrupted. The pictures of step {step} of 4 are in {folder}" in told
    assert (tmp_path / "out" / "baseline").exists() == ("baseline" in sides)
    assert not list((tmp_path / "out").rglob("*.part"))


def test_ctrl_c_ends_the_command_line_without_a_crash(tmp_path: Path) -> None:
    """A process of its own, interrupted as a terminal does it."""
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where the tests run in the background
        "from engine import __main__ as cli\n"
        "from engine.commands import shared\n"
        "def bar(label, done, total, seconds):\n"
        "    if label == 'ours' and done == 3: os.kill(os.getpid(), signal.SIGINT)\n"
        "shared.show_bar = bar\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    arguments = ["generate", "red", "--n", "2", "--steps", "9", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-c", code, *arguments]
    root = Path(__file__).resolve().parents[3]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=root)
    assert ended.returncode == 130, ended.stderr
    assert "The pictures of step" in ended.stderr and "Traceback" not in ended.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_a_reader_that_has_read_enough_is_no_error() -> None:
    """As `| head` is."""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "engine", "models", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stdout is not None and program.stderr is not None
        program.stdout.close()
        told = program.stderr.read()
    assert program.returncode == 141 and told == b""

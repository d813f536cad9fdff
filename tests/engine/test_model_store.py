"""Fetching, remembering and removing public models; the table's own rules; the commands around them."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from engine import __main__ as cli
from engine import model_store, models_command, public_models
from engine.downloads import DownloadError, Patience
from engine.errors import ModelError
from engine.model_store import LicenceError, accept_licence, fetch, find_installed, installed, is_accepted, remove
from engine.models_command import family_of
from engine.public_models import PUBLIC_MODELS, PublicFile, PublicModel, public_model
from tests.checkpoints import expected

QUICK = Patience(stall=2, tries=2, first_wait=0.01)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the models, and a cache, of this test's own."""
    monkeypatch.setenv("GMI_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GMI_MODEL_MIRROR", raising=False)
    return tmp_path / "models"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which a server on this machine gives its files."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def tiny(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> PublicModel:
    """A public model of two files, `tiny`, beside the others in the table."""
    folder, address = served
    files = []
    for name in ("pytorch_model.bin", "config.json"):
        shutil.copy(expected.path(f"biggan-deep-tiny/{name}"), folder / name)
        files.append(PublicFile(name, address + name, 1.0))
    model = PublicModel(
        "tiny", "biggan_deep", 64, tuple(files), "CC BY-NC 4.0", "not commercially", "a paper", "nothing"
    )
    for module in (public_models, model_store, models_command):
        monkeypatch.setattr(module, "PUBLIC_MODELS", (*PUBLIC_MODELS, model))
    return model


def test_the_table_is_complete_and_consistent() -> None:
    assert len({model.name for model in PUBLIC_MODELS}) == len(PUBLIC_MODELS) >= 20
    for model in PUBLIC_MODELS:
        assert model.licence and model.paper and model.shows and model.latents
        assert model.resolution & (model.resolution - 1) == 0
        for file in model.files:
            assert urlsplit(file.url).scheme == "https"
            assert Path(file.name).name == file.name
            assert file.max_bytes > file.megabytes * 1e6
        if "non-commercial" in model.licence or "NC" in model.licence:
            assert "not commercially" in model.conditions


def test_every_family_of_the_table_has_networks() -> None:
    from engine.checkpoints.building import BUILDERS

    assert {model.family for model in PUBLIC_MODELS} <= {family for family, _ in BUILDERS}


def test_unknown_names() -> None:
    with pytest.raises(ModelError, match=r"no public model 'dalle-dvea'; did you mean dalle-dvae\?"):
        public_model("dalle-dvea")


def test_conditions_are_accepted_once(place: Path, tiny: PublicModel) -> None:
    with pytest.raises(LicenceError, match=r"under conditions: not commercially \(CC BY-NC 4\.0\).*--accept-licence"):
        fetch(tiny, family_of)
    assert not place.exists()
    accept_licence(tiny)
    assert is_accepted(tiny)
    fetch(tiny, family_of)
    assert is_accepted(public_model("biggan-deep-128"))
    assert not is_accepted(public_model("stylegan2-ada-ffhq"))


def test_fetched_models_open_and_are_found(place: Path, tiny: PublicModel) -> None:
    from engine.checkpoints import open_checkpoint

    accept_licence(tiny)
    assert list(installed()) == []
    seen: list[tuple[str, int]] = []
    entry = fetch(tiny, family_of, on_progress=lambda file, progress: seen.append((file.name, progress.done)))
    assert entry.folder == place / "tiny"
    assert {name for name, _ in seen} == {"pytorch_model.bin", "config.json"}
    assert [here.model.name for here in installed()] == ["tiny"]
    expected.check_biggan_deep(open_checkpoint(entry.folder))
    (place / "tiny" / "config.json").unlink()
    assert find_installed("tiny") is None


def test_the_first_hash_is_recorded_and_compared(place: Path, tiny: PublicModel, served: tuple[Path, str]) -> None:
    accept_licence(tiny)
    fetch(tiny, family_of)
    recorded = json.loads((place / "hashes.json").read_text())
    file = tiny.files[0]
    assert recorded[file.url] == hashlib.sha256((place / "tiny" / file.name).read_bytes()).hexdigest()
    remove(tiny)
    data = bytearray((served[0] / file.name).read_bytes())
    data[-1] ^= 1
    (served[0] / file.name).write_bytes(data)
    with pytest.raises(DownloadError, match="damaged or was exchanged"):
        fetch(tiny, family_of, patience=QUICK)
    assert find_installed("tiny") is None


def test_only_what_is_missing_is_fetched(place: Path, tiny: PublicModel, served: tuple[Path, str]) -> None:
    accept_licence(tiny)
    fetch(tiny, family_of)
    (place / "tiny" / "config.json").unlink()
    (served[0] / "pytorch_model.bin").unlink()
    assert fetch(tiny, family_of, patience=QUICK).bytes > 600_000


def test_another_family_than_expected(place: Path, tiny: PublicModel, served: tuple[Path, str]) -> None:
    accept_licence(tiny)
    shutil.copy(expected.path("rosinality_32.pt"), served[0] / "pytorch_model.bin")
    with pytest.raises(ModelError, match="is a stylegan2, expected a biggan_deep"):
        fetch(tiny, family_of)
    assert find_installed("tiny") is None


def test_a_hostile_file_is_not_installed(place: Path, tiny: PublicModel, served: tuple[Path, str]) -> None:
    accept_licence(tiny)
    (served[0] / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(Vtrue\ntR.")
    with pytest.raises(ModelError, match=r"refused: it wants os\.system"):
        fetch(tiny, family_of)
    assert find_installed("tiny") is None


def test_removal(place: Path, tiny: PublicModel) -> None:
    accept_licence(tiny)
    size = fetch(tiny, family_of).bytes
    assert remove(tiny) >= size
    assert not (place / "tiny").exists()
    with pytest.raises(ModelError, match="tiny is not installed"):
        remove(tiny)


def test_removing_a_link_leaves_what_it_points_to(place: Path, tiny: PublicModel, tmp_path: Path) -> None:
    accept_licence(tiny)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(expected.path("biggan-deep-tiny"), elsewhere)
    (place / "tiny").symlink_to(elsewhere)
    remove(tiny)
    assert (elsewhere / "config.json").exists() and not (place / "tiny").exists()


def test_damaged_notes_are_told(place: Path, tiny: PublicModel) -> None:
    place.mkdir(parents=True)
    (place / "licences.json").write_text("{")
    with pytest.raises(ModelError, match=r"licences\.json is damaged"):
        is_accepted(tiny)


# ---- the commands ----------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["models", *arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_get_show_list_remove(place: Path, tiny: PublicModel, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = run(capsys, "get", "tiny")
    assert code == 2 and "--accept-licence" in error
    code, out, error = run(capsys, "get", "tiny", "--accept-licence")
    assert code == 0 and f"tiny is in {place / 'tiny'}" in out
    assert "\rpytorch_model.bin [##############################] 0.6/0.6 MB" in error
    code, out, _ = run(capsys, "get", "tiny")
    assert code == 0 and "is here already" in out
    _, out, _ = run(capsys, "show", "tiny")
    assert f"here, in {place / 'tiny'}" in out and "not commercially" in out
    code, out, _ = run(capsys, "remove", "tiny")
    assert code == 0 and "tiny was deleted" in out
    assert not list((place.parent / "cache" / "converted").iterdir())
    code, _, error = run(capsys, "remove", "avatars")
    assert code == 2 and "no public model 'avatars'" in error


def test_list_shows_what_can_be_had(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ((), ("list",)):
        code, out, _ = run(capsys, *arguments)
        assert code == 0
        assert "avatars" in out and "clip-mini" in out
        for model in PUBLIC_MODELS:
            assert model.name in out


def test_show_of_a_bundled_model_and_of_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", "avatars")
    assert code == 0 and "generator, bundled" in out and "sha256" in out
    code, _, error = run(capsys, "show", "avatarz")
    assert code == 2 and "did you mean avatars?" in error


@pytest.mark.parametrize("name", ["vqgan_tiny.ckpt", "sg2_tf_legacy32.pkl", "biggan-deep-tiny"])
def test_check_tells_what_a_file_is(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = expected.path(name)
    code, out, _ = run(capsys, "check", str(path))
    assert code == 0
    for word in ("format", "family", expected.CHECKS[name][0], "bytes", "tensors", "sha256", "nothing was refused"):
        assert word in out
    assert run(capsys, "show", str(path))[1] == out


def test_check_of_hostile_and_foreign_files(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n(Vtrue\ntR.")
    code, out, _ = run(capsys, "check", str(tmp_path / "evil.pkl"))
    assert code == 1 and out.startswith("refused: it wants os.system.")
    (tmp_path / "page.pt").write_bytes(b"<html>sign in</html>")
    code, out, _ = run(capsys, "check", str(tmp_path / "page.pt"))
    assert code == 1 and "a web page, not a model" in out
    code, out, _ = run(capsys, "check", str(tmp_path / "nothing.pt"))
    assert code == 1 and "There is no file" in out


def test_check_of_a_state_dict_with_a_layer_missing(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from engine.checkpoints import open_checkpoint

    state = dict(open_checkpoint(expected.path("rosinality_32.pt")).networks["generator"])
    del state["synthesis.b8.conv1.affine.bias"]
    torch.save(state, tmp_path / "half.pt")
    code, out, _ = run(capsys, "check", str(tmp_path / "half.pt"))
    assert code == 1 and "problem: half.pt does not hold a stylegan2 generator" in out


@pytest.mark.parametrize("name", expected.CHECKS)
def test_convert_gives_a_model_that_reproduces_the_reference(
    name: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.checkpoints import open_checkpoint

    out = tmp_path / "model.safetensors"
    code, said, _ = run(capsys, "convert", str(expected.path(name)), "--out", str(out))
    assert code == 0 and str(out) in said
    family, checks = expected.CHECKS[name]
    opened = open_checkpoint(out)
    assert opened.family == family
    for check in checks:
        check(opened)


def test_convert_says_what_it_took_as_usual(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from engine.checkpoints import open_checkpoint

    source, out = str(expected.path("rosinality_32.pt")), tmp_path / "model.safetensors"
    _, said, _ = run(capsys, "convert", source, "--out", str(out))
    assert "generator.lr_multiplier=0.01" in said and "--set changes it" in said
    _, said, _ = run(
        capsys, "convert", source, "--out", str(out), "--set", "conv_clamp=256", "--set", "lr_multiplier=1"
    )
    assert "Taken as usual" not in said
    assert open_checkpoint(out).configuration["generator"]["conv_clamp"].value == 256
    for wrong, message in (
        ("conv_clamp", "takes NAME=VALUE"),
        ("eps=1", "no setting 'eps'"),
        ("conv_clamp=x", "got 'x'"),
    ):
        code, _, error = run(capsys, "convert", source, "--out", str(out), "--set", wrong)
        assert code == 2 and message in error
    code, _, error = run(capsys, "convert", source, "--out", str(tmp_path / "model.pt"))
    assert code == 2 and "must end in .safetensors" in error


def test_convert_takes_a_description_from_elsewhere(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.checkpoints import open_checkpoint

    config = expected.path("biggan-deep-tiny/config.json")
    source, out = expected.path("biggan-deep-tiny-zip.bin"), tmp_path / "model.safetensors"
    assert run(capsys, "convert", str(source), "--out", str(out), "--config", str(config))[0] == 0
    opened = open_checkpoint(out)
    assert opened.configuration["generator"]["up"].source == "its config.json"
    expected.check_biggan_deep(opened)

"""Fetching, remembering and removing public models; the table's own rules; the commands around them."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from engine import __main__ as cli
from engine.commands import models
from engine.commands.models import family_of
from engine.errors import ModelError
from engine.families import FAMILIES
from engine.models import public, store
from engine.models.downloads import DownloadError, Patience
from engine.models.public import PUBLIC_MODELS, PublicFile, PublicModel, public_model
from engine.models.store import (
    LicenceError,
    OwnModel,
    accept_licence,
    fetch,
    find_installed,
    installed,
    is_accepted,
    remove,
)
from tests.engine.checkpoints import expected
from tests.programs import running

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
    for module in (public, store, models):
        monkeypatch.setattr(module, "PUBLIC_MODELS", (*PUBLIC_MODELS, model))
    return model


def test_the_table_is_complete_and_consistent() -> None:
    assert len({model.name for model in PUBLIC_MODELS}) == len(PUBLIC_MODELS) >= 20
    for model in PUBLIC_MODELS:
        assert model.licence and model.paper and model.shows and model.latents
        assert model.resolution % 32 == 0
        assert len({file.name for file in model.files}) == len(model.files)
        for file in model.files:
            assert urlsplit(file.url).scheme == "https" or file.text
            parts = file.name.split("/")
            assert len(parts) <= 1 + model.is_folder and all(part == Path(part).name for part in parts)
            assert file.max_bytes > file.megabytes * 1e6
        if "non-commercial" in model.licence or "NC" in model.licence:
            assert "not commercially" in model.conditions


def test_every_family_of_the_table_has_networks() -> None:
    assert {model.family for model in PUBLIC_MODELS} <= FAMILIES.keys()


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


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\0", '"x"'])
def test_a_damaged_list_is_set_aside_and_said(
    text: str, place: Path, tiny: PublicModel, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is blocked by it, and what is left of it is kept."""
    place.mkdir(parents=True, exist_ok=True)
    for name in ("licences.json", "memory.json", "own.json"):
        (place / name).write_text(text)
    assert not is_accepted(tiny) and store.stored_budget() is None and store.own_models() == ()
    for name in ("licences.json", "memory.json", "own.json"):
        assert (place / f"{name}.damaged").read_text() == text and f"{name} is damaged" in caplog.text
    accept_licence(tiny)
    assert is_accepted(tiny)


def test_one_damaged_prompt_model_hides_no_other(place: Path) -> None:
    for name, text in (
        ("broken", ""),
        ("fine", '{"name": "open_clip:A/B", "licence": "MIT", "sha256": {"w.pt": "0"}}'),
    ):
        folder = place / f"open_clip--{name}"
        folder.mkdir(parents=True)
        (folder / "w.pt").write_bytes(b"x")
        (folder / store.INSTALLED).write_text(text)
    assert [prompt.name for prompt in store.prompt_models()] == ["open_clip:A/B"]


@pytest.mark.parametrize("entry", [5, "x", None, [], {"name": "a"}, {"classes": 3}])
def test_an_entry_that_is_none_hides_no_other(entry: object, place: Path, tmp_path: Path) -> None:
    (tmp_path / "g.pt").write_bytes(b"x")
    mine = store.OwnModel("mine", "generator", "stylegan2", 16, 1, "x", str(tmp_path / "g.pt"))
    store.remember_own(mine)
    values = json.loads((place / "own.json").read_text())
    (place / "own.json").write_text(json.dumps({"other": entry, **values}))
    assert store.own_models() == (mine,)


def test_two_studios_lose_no_entry_of_each_other(place: Path, tmp_path: Path) -> None:
    """Two programs that list 20 files each at the same time."""
    code = """
import sys
from pathlib import Path
from engine.models import store
for number in range(20):
    path = Path(sys.argv[1]) / f"{sys.argv[2]}{number}.pt"
    path.write_bytes(b"x")
    store.remember_own(store.OwnModel(str(path), "generator", "stylegan2", 16, 1, "x", str(path)))
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    with running([*command, "a"]) as one, running([*command, "b"]) as another:
        assert (one.wait(), another.wait()) == (0, 0)
    assert len(store.own_models()) == 40
    assert [path.name for path in place.iterdir()] == ["own.json"]


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
    source, out = tmp_path / "generator.bin", tmp_path / "model.safetensors"
    shutil.copy(expected.path("biggan-deep-tiny/pytorch_model.bin"), source)
    assert run(capsys, "convert", str(source), "--out", str(out), "--config", str(config))[0] == 0
    opened = open_checkpoint(out)
    assert opened.configuration["generator"]["up"].source == "its config.json"
    expected.check_biggan_deep(opened)


# ---- own files, prompt models, the budget ----------------------------------------------------------------


def own(path: Path, name: str | None = None) -> OwnModel:
    return OwnModel(name or str(path), "generator", "stylegan2", 32, 10, "a format", str(path))


def test_own_files_are_remembered_newest_first_while_they_are_there(place: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    for path in (first, second):
        path.write_bytes(b"x")
        store.remember_own(own(path))
    assert [model.label for model in store.own_models()] == ["b.pt", "a.pt"]
    store.remember_own(own(first))
    assert [model.label for model in store.own_models()] == ["a.pt", "b.pt"]
    first.unlink()
    assert [model.label for model in store.own_models()] == ["b.pt"]
    assert store.forget_own(str(second)) == 0 and second.exists()
    assert not store.own_models()
    with pytest.raises(ModelError, match="is not in the list"):
        store.forget_own(str(second))


def test_entries_of_another_version_are_left_out(place: Path) -> None:
    place.mkdir(parents=True)
    (place / store.OWN).write_text('{"x": {"name": "x", "colour": 3}}')
    assert store.own_models() == ()


def test_uploads_get_a_place_of_their_own_and_are_deleted_with_it(place: Path, tmp_path: Path) -> None:
    def upload(name: str, content: bytes = b"12345") -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    one = store.take_upload({"model.pt": upload("temporary1")})
    assert one == place / "own" / "model" / "model.pt" and one.read_bytes() == b"12345"
    again = store.take_upload({"model.pt": upload("temporary2")})
    assert again == place / "own" / "model-2" / "model.pt"
    both = store.take_upload({"last.ckpt": upload("temporary3"), "model.yaml": upload("temporary4")})
    assert both == place / "own" / "last" and {path.name for path in both.iterdir()} == {"last.ckpt", "model.yaml"}
    store.remember_own(own(one))
    store.remember_own(own(both))
    assert store.forget_own(str(one)) == 5 and not one.parent.exists()
    assert store.forget_own(str(both)) == 10 and not both.exists()
    assert again.exists()


@pytest.mark.parametrize("name", ["../../evil.pt", "/etc/passwd", ".hidden"])
def test_names_of_uploads_lead_nowhere(name: str, place: Path, tmp_path: Path) -> None:
    (tmp_path / "temporary").write_bytes(b"x")
    taken = store.take_upload({name: tmp_path / "temporary"})
    assert taken.parent.parent == place / "own"
    with pytest.raises(ModelError, match="names of their own"):
        store.take_upload({"..": tmp_path})


def test_only_uploads_are_deleted(place: Path, tmp_path: Path) -> None:
    (place / "own").mkdir(parents=True)
    for path in (tmp_path / "mine.pt", place / "own", place, Path("/")):
        assert store.discard_upload(path) == 0
    assert (place / "own").is_dir()


def test_a_prompt_model_is_fetched_found_and_removed(place: Path, served: tuple[Path, str]) -> None:
    """As a tag of open_clip is: a single file of unknown size, under a name that is no folder's."""
    folder, address = served
    (folder / "weights.safetensors").write_bytes(b"0" * 3000)
    file = PublicFile("weights.safetensors", address + "weights.safetensors", 0)
    model = PublicModel("open_clip:ViT-X/tag", "open_clip", 0, (file,), "MIT", "", "", "reads texts")
    fetch(model, lambda _: "open_clip", patience=QUICK)
    name = "open_clip:ViT-X/tag"
    assert store.find_prompt_file(name) == place / "open_clip--ViT-X--tag" / "weights.safetensors"
    assert [row.name for row in store.stored_rows() if row.kind == "prompt"] == [name]
    assert store.remove_prompt(name) > 3000
    assert store.find_prompt_file(name) is None
    with pytest.raises(ModelError, match="is not installed"):
        store.remove_prompt(name)


def test_the_budget_is_kept(place: Path) -> None:
    assert store.stored_budget() is None
    store.store_budget(123)
    assert store.stored_budget() == 123


def test_what_does_not_open_is_deleted_and_fetched_anew(place: Path, served: tuple[Path, str]) -> None:
    """A first download of rubbish must not be taken for the model for ever."""
    folder, address = served
    file = PublicFile("model.pkl", address + "model.pkl", 1)
    model = PublicModel("rubbish", "stylegan2", 32, (file,), "MIT", "", "a paper", "nothing")
    (folder / "model.pkl").write_bytes(b"rubbish")
    with pytest.raises(ModelError, match="is refused"):
        fetch(model, family_of, patience=QUICK)
    assert not (place / "rubbish").exists() and json.loads((place / "hashes.json").read_text()) == {}
    shutil.copy(expected.path("sg2_tf_legacy32.pkl"), folder / "model.pkl")
    assert fetch(model, family_of, patience=QUICK).bytes > 100_000


def test_the_second_place_is_tried_where_the_first_has_nothing(place: Path, served: tuple[Path, str]) -> None:
    folder, address = served
    shutil.copy(expected.path("sg2_tf_legacy32.pkl"), folder / "there.pkl")

    def at(file: str) -> PublicModel:
        files = (PublicFile(file, address + file, 1),)
        return PublicModel("twice", "stylegan2", 32, files, "MIT", "", "a paper", "nothing")

    found = models.fetch_from([at("missing.pkl"), at("there.pkl")], patience=QUICK)
    assert (found.folder / "there.pkl").is_file()
    with pytest.raises(DownloadError, match="404"):
        models.fetch_from([at("missing.pkl"), at("gone.pkl")], patience=QUICK)


def test_tags_of_open_clip_have_addresses_and_licences() -> None:
    """Facts that open_clip and Hugging Face's client tell without a network."""
    best, *others = models.places_of("open_clip:ViT-B-32/laion2b_s34b_b79k")
    assert best.name == "open_clip:ViT-B-32/laion2b_s34b_b79k" and best.family == "open_clip"
    assert best.files[0].name.endswith(".safetensors") and not best.conditions and others
    for model in (best, *others):
        assert urlsplit(model.files[0].url).scheme == "https" and model.files[0].max_bytes > 10**9
    openai = models.places_of("open_clip:ViT-B-32/openai")[-1].files[0]
    assert openai.sha256 is not None and openai.sha256 in openai.url
    assert "not commercially" in models.places_of("open_clip:ViT-B-32-quickgelu/metaclip_400m")[0].conditions
    with pytest.raises(ModelError, match="ViT-B-32 has no tag 'x'; its tags: openai"):
        models.places_of("open_clip:ViT-B-32/x")


def test_prompt_models_are_listed_and_removed_by_command(
    place: Path, served: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, address = served
    shutil.copy(expected.path("sg2_tf_legacy32.pkl"), folder / "weights.pt")
    file = PublicFile("weights.pt", address + "weights.pt", 0)
    name = "open_clip:ViT-X/tag"
    fetch(PublicModel(name, "open_clip", 0, (file,), "MIT", "", "", ""), lambda _: "open_clip", patience=QUICK)
    assert name in run(capsys, "list")[1]
    code, out, _ = run(capsys, "remove", name)
    assert code == 0 and f"{name} was deleted" in out
    code, _, error = run(capsys, "remove", name)
    assert code == 2 and "is not installed" in error

"""The shipped judges: whole, as good as their cards say, and none of them a network that something optimises."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.checkpoints import read_safetensors
from engine.errors import ModelError
from engine.models.table import ASSETS, list_models
from training import judges
from training.avatars import classifier, pool
from training.fashion import data

SHIPPED = judges.NAMES


def weights(name: str) -> dict[str, Tensor]:
    return read_safetensors(judges.FOLDER / name / "weights.safetensors")


def test_the_judge_of_avatars_is_as_good_as_its_card_says() -> None:
    told = judges.facts("avatars")["figures"]
    found = classifier.accuracy(judges.load_avatars(), pool.held_out(200, seed=pool.HELD_OUT_SEED + 7))
    # 200 other drawings: a share of .9 scatters by .02 (binomial), so four of that are allowed.
    for group, share in found.items():
        assert share > told[group.replace("_", " ")] - 0.085, group


def test_the_judge_of_fashion_tells_its_classes() -> None:
    """Of the test pictures, which it never saw; where Debian's package is missing there are none to try."""
    try:
        pixels, labels = data.load("t10k")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with torch.no_grad():
        found = judges.load_fashion()(data.to_images(pixels[:1000])).argmax(1)
    # 1,000 pictures: a share of .93 scatters by .008, so four of that are allowed.
    assert float((found == labels[:1000]).double().mean()) > judges.facts("fashion")["figures"]["class"] - 0.032


@pytest.mark.parametrize("name", SHIPPED)
def test_a_judge_is_no_network_that_a_run_optimises(name: str) -> None:
    """A large array of a judge that a bundled model holds too, up to half precision, would be shared weights."""
    judge = {key: value for key, value in weights(name).items() if value.numel() > 1000}
    assert judge
    for row in list_models():
        for file in row.files.values():
            if file.path.suffix == ".safetensors":
                for key, value in read_safetensors(file.path).items():
                    for own, mine in judge.items():
                        if mine.shape == value.shape:
                            assert not torch.allclose(mine, value, rtol=1e-2, atol=1e-4), (own, row.name, key)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_card_tells_what_is_on_disk(name: str) -> None:
    folder, facts = judges.FOLDER / name, judges.facts(name)
    card = (folder / "card.md").read_text()
    for file in facts["files"].values():
        assert file["sha256"] in card
    assert facts["command"] in card and facts["licence"] in card
    assert {path.name for path in folder.iterdir()} == {
        "card.md", "judge.json", *(file["path"] for file in facts["files"].values()),
    }  # fmt: skip


def test_a_damaged_judge_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "avatars"
    copy.mkdir()
    for path in (judges.FOLDER / "avatars").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "weights.safetensors").write_bytes(b"\0" + (copy / "weights.safetensors").read_bytes()[1:])
    with pytest.raises(ModelError, match="damaged"):
        judges.load_avatars(tmp_path)


def test_a_fresh_judge_is_read_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where nothing was trained
    judges.load_avatars()
    with pytest.raises(FileNotFoundError, match="training.avatars.classifier --name judge"):
        judges.load_avatars(fresh=True)


def test_words_that_were_never_seen_are_stored_once() -> None:
    config = json.loads((ASSETS / "clip-mosaic/open_clip_config.json").read_text())
    table = torch.full((config["model_cfg"]["text_cfg"]["vocab_size"], 3), 0.5)
    table[7], table[-1] = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0])
    state = {"text.token_embedding.weight": table, "logit_scale": torch.tensor(2.0)}
    small = judges.without_unseen_words(state)
    assert small["words.rows"].shape == (2, 3)
    whole = judges.with_all_words(small)
    assert whole.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(whole[name], value)

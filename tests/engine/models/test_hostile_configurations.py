"""No configuration runs anything, has a name looked up, or reads a file elsewhere: each is refused with its reason.

Once with whatever is installed, and once beside a `transformers` that tells when it is asked for anything.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.checkpoints import read_safetensors
from engine.models.loading import load_prompt_model
from tests.engine.checkpoints import expected
from tests.engine.models.hostile_configurations import Case, corpus
from tests.engine.tiny import CLIP_CONFIG

ROOT = Path(__file__).resolve().parents[3]
WEIGHTS = {"vqgan": "vqgan_tiny.ckpt", "biggan": "biggan-deep-tiny/pytorch_model.bin"}
ASKED = """
import os
class Asked:
    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        open(os.environ["CANARY"], "w").write("transformers was asked")
        raise OSError("asked")
    from_config = from_pretrained
AutoTokenizer = AutoModel = AutoConfig = PretrainedConfig = PreTrainedTokenizer = Asked
"""
OUTPUTS = "class BaseModelOutput: pass\nBaseModelOutputWithPooling = BaseModelOutput\n"
OUTPUTS += "BaseModelOutputWithPoolingAndCrossAttentions = BaseModelOutput\n"


def write(place: Path, case: Case, weights: Path) -> None:
    place.mkdir(parents=True)
    os.link(weights, place / f"weights{weights.suffix}")
    for name, content in case.files.items():
        (place / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    for name, target in case.links.items():
        (place / name).symlink_to(target)


def weights_of(kind: str, clip: Path) -> Path:
    return expected.path(WEIGHTS[kind]) if kind in WEIGHTS else clip


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, tiny_assets: Path) -> tuple[Path, dict[str, str]]:
    """A folder for each case, and the label of each."""
    place = tmp_path_factory.mktemp("configurations")
    names = {}
    for number, (label, case) in enumerate(corpus().items()):
        name = f"{case.kind}-{number:03}"
        names[name] = label
        source = weights_of(case.kind, tiny_assets / "clip-mini" / "clip-mini.safetensors")
        copied = place / f"{case.kind}{source.suffix}"
        if not copied.exists():
            copied.write_bytes(source.read_bytes())
        write(place / "cases" / name, case, copied)
    return place / "cases", names


@pytest.fixture(scope="module", params=["as installed", "transformers that tells"])
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, places: tuple[Path, dict[str, str]]
) -> dict[str, tuple[str, str, float]]:
    """What became of every case, in a process whose working folder has the canary's code too."""
    place = tmp_path_factory.mktemp("opened")
    path = [str(ROOT)]
    if request.param != "as installed":
        fake = place / "fake" / "transformers"
        fake.mkdir(parents=True)
        (fake / "__init__.py").write_text(ASKED)
        (fake / "modeling_outputs.py").write_text(OUTPUTS)
        path.append(str(fake.parent))
    canary = place / "canary"
    environment = {**os.environ, "CANARY": str(canary), "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}
    environment |= {"GMI_CACHE": str(place / "cache"), "HF_HUB_OFFLINE": "1", "HF_HOME": str(place / "hub")}
    command = [sys.executable, "-m", "tests.engine.models.run_configurations", str(places[0])]
    shown = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, timeout=300)
    assert shown.returncode == 0, shown.stderr[-2000:]
    assert not canary.exists(), canary.read_text()
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    return {places[1][name]: (outcome, message, seconds) for name, outcome, message, seconds in lines}


def test_the_corpus_is_large() -> None:
    assert len(corpus()) >= 100


def test_each_is_refused_with_its_reason(results: dict[str, tuple[str, str, float]]) -> None:
    assert results.keys() == corpus().keys()
    wrong = {
        label: results[label][:2]
        for label, case in corpus().items()
        if results[label][0] not in ("ModelError", "Refused") or not re.search(case.says, results[label][1])
    }
    assert wrong == {}


def test_none_takes_long(results: dict[str, tuple[str, str, float]]) -> None:
    """A second each on an idle machine, most of it imports; none hangs."""
    assert {label: result[2] for label, result in results.items() if result[2] > 90} == {}


def test_the_canary_would_be_seen(tmp_path: Path, places: tuple[Path, dict[str, str]]) -> None:
    """What lies in the folders does write the file when it is imported."""
    folder = next(folder for folder in places[0].iterdir() if (folder / "evil.py").is_file())
    environment = {**os.environ, "CANARY": str(tmp_path / "canary"), "PYTHONPATH": str(folder)}
    subprocess.run([sys.executable, "-c", "import evil"], env=environment, check=True, timeout=60)
    assert (tmp_path / "canary").read_text() == "run"


# ---- what is allowed works ---------------------------------------------------------------------------------


def own_words(tmp_path: Path, assets: Path, **tokenizer: Any) -> Path:
    """clip-mini with a tokenizer.json that has open_clip's words, some of them under other numbers."""
    from open_clip import SimpleTokenizer

    usual = SimpleTokenizer()
    words = {word.replace("<start_of_text>", "<|startoftext|>"): number for word, number in usual.encoder.items()}
    merges = [list(pair) for pair in usual.bpe_ranks]
    model = {"type": "BPE", "vocab": words, "merges": merges, "end_of_word_suffix": "</w>", **tokenizer}
    folder = tmp_path / "own"
    folder.mkdir()
    state = read_safetensors(assets / "clip-mini" / "clip-mini.safetensors")
    torch.save(state, folder / "weights.pt")
    config = json.loads(json.dumps(CLIP_CONFIG))
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "someone/words"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": model}))
    return folder


def test_a_tokenizer_json_is_read_as_data(tmp_path: Path, tiny_assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With open_clip's own words it gives the same features; with two words exchanged, those of the other word."""
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "cache"))
    usual = load_prompt_model(str(tiny_assets / "clip-mini"))
    folder = own_words(tmp_path, tiny_assets)
    own = load_prompt_model(str(folder))
    texts = ["A man, smiling!", "", "crème brûlée"]
    torch.testing.assert_close(own.text_features(texts), usual.text_features(texts))
    told = json.loads((folder / "tokenizer.json").read_text())
    words = told["model"]["vocab"]
    words["cat</w>"], words["dog</w>"] = words["dog</w>"], words["cat</w>"]
    (folder / "tokenizer.json").write_text(json.dumps(told))
    other = tmp_path / "other"
    folder.rename(other)
    torch.testing.assert_close(load_prompt_model(str(other)).text_features(["a cat"]), usual.text_features(["a dog"]))


@pytest.mark.parametrize(
    "vision",
    [
        {"layers": 1, "width": 64, "patch_size": 16, "image_size": 32, "norm_kwargs": {"eps": 1e-6}},
        {"layers": [1, 1, 1, 1], "width": 64, "patch_size": None, "image_size": 64},
    ],
    ids=["ViT", "ResNet"],
)
def test_the_network_is_the_one_that_open_clip_builds(tmp_path: Path, vision: dict[str, Any]) -> None:
    """Every field that is allowed reaches the network: the same keys, shapes and features as by open_clip itself."""
    import open_clip

    text = {"context_length": 12, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1, "proj_bias": True}
    model = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": {**text, "no_causal_mask": True}, "custom_text": True}
    config = {"model_cfg": {**model, "quick_gelu": True, "init_logit_bias": -10}, "preprocess_cfg": {"std": [0.5] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    own = load_prompt_model(str(tmp_path))
    pictures = torch.rand(2, 3, *own.image_size) * 2 - 1
    with torch.no_grad():
        seen = network.encode_image(own.preprocess(pictures), normalize=True)
        torch.testing.assert_close(own.image_features(pictures), seen)
        tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(["a cat"])
        torch.testing.assert_close(own.text_features(["a cat"]), network.encode_text(tokens, normalize=True))
    assert own.std.flatten().tolist() == [0.5] * 3

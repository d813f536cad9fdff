"""Prompt models: features, differentiable preprocessing, what the context cuts off, what cannot be loaded."""

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from engine.errors import ModelError
from engine.models.clip import PromptModel
from engine.models.loading import load_prompt_model
from engine.networks.mini_tower import MiniTower
from tests.engine.tiny import CLIP_CONFIG


@pytest.fixture
def prompt_model(tiny_assets: Path) -> PromptModel:
    return load_prompt_model("clip-mini", assets=tiny_assets)


def noise(n: int, side: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_bundled_models_need_no_network(tiny_assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    model = load_prompt_model(str(tiny_assets / "clip-mini"))
    assert model.text_features(["a smile", "no glasses"]).shape == (2, 24)
    assert model.image_features(noise(2, 16)).shape == (2, 24)


def test_features_have_length_one(prompt_model: PromptModel) -> None:
    images, texts = prompt_model.image_features(noise(3, 128)), prompt_model.text_features(["x", ""])
    torch.testing.assert_close(images.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(2))
    assert not texts.requires_grad


def test_features_are_open_clips_own(prompt_model: PromptModel, tiny_assets: Path) -> None:
    """At the network's own size nothing is resized: the same numbers as through open_clip's PIL pipeline."""
    folder = f"local-dir:{tiny_assets / 'clip-mini'}"
    network, _, preprocess = open_clip.create_model_and_transforms(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = network.eval().encode_image(preprocess(Image.fromarray(pixels))[None], normalize=True)
        images = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
        torch.testing.assert_close(prompt_model.image_features(images), expected, rtol=1e-4, atol=1e-5)
        tokens = open_clip.get_tokenizer(folder)(["A man, smiling!"])
        expected = network.encode_text(tokens, normalize=True)
        torch.testing.assert_close(prompt_model.text_features(["A man, smiling!"]), expected)


def test_preprocessing_resizes_like_pil(prompt_model: PromptModel) -> None:
    """Antialiased bicubic; PIL rounds to 1/255 after each of two passes. Mid tones, as PIL also clamps."""
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(80, 176, (16, 16, 3)), np.ones((9, 9, 1))).astype(np.uint8)
    small = np.array(Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC))
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    resized = prompt_model.preprocess(images) * prompt_model.std + prompt_model.mean
    expected = torch.from_numpy(small).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(resized, expected, rtol=0, atol=1.1 / 255)


def test_preprocessing_skips_the_right_size_and_squeezes_others(prompt_model: PromptModel) -> None:
    images = noise(1, 64)
    expected = ((images + 1) / 2 - prompt_model.mean) / prompt_model.std
    torch.testing.assert_close(prompt_model.preprocess(images), expected, rtol=0, atol=0)
    assert prompt_model.preprocess(torch.zeros(1, 3, 96, 40)).shape == (1, 3, 64, 64)


def test_values_beyond_the_range_count_as_clamped_and_keep_their_gradient(prompt_model: PromptModel) -> None:
    images = (3 * noise(2, 64)).requires_grad_()
    features = prompt_model.image_features(images)
    torch.testing.assert_close(features, prompt_model.image_features(images.clamp(-1, 1)))
    features[:, 0].sum().backward()
    assert images.grad is not None
    assert (images.grad[images.abs() > 1] != 0).float().mean() > 0.99


def test_gradient_reaches_the_pixels(prompt_model: PromptModel) -> None:
    """The directional derivative of a feature by finite differences, in float64."""
    network = MiniTower(num_classes=5).double().eval()
    images = noise(1, 64).double().requires_grad_()
    direction = noise(1, 64, seed=1).double()
    cotangent = torch.arange(1.0, 6.0, dtype=torch.float64)
    (network(images) * cotangent).sum().backward()
    assert images.grad is not None
    h = 1e-5
    with torch.no_grad():
        ahead, behind = network(images + h * direction), network(images - h * direction)
    numerical = ((ahead - behind) / (2 * h) * cotangent).sum()
    torch.testing.assert_close((images.grad * direction).sum(), numerical, rtol=1e-6, atol=1e-9)

    pixels = noise(2, 100).requires_grad_()
    prompt_model.image_features(pixels)[:, 0].sum().backward()
    assert pixels.grad is not None and (pixels.grad.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_features_do_not_depend_on_the_batch(prompt_model: PromptModel) -> None:
    images = noise(4, 32)
    alone = torch.cat([prompt_model.image_features(image) for image in images.split(1)])
    torch.testing.assert_close(prompt_model.image_features(images), alone, rtol=1e-5, atol=1e-6)


def test_tower_covers_every_pixel_alike() -> None:
    """The last grid sees all pixels of the middle: no pixel is left without a gradient by the strides."""
    images = noise(1, 64).requires_grad_()
    MiniTower().eval()(images).sum().backward()
    assert images.grad is not None
    assert (images.grad.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("prompt", "cut"),
    [
        ("a smile", ""),
        ("", ""),
        ("a smile!   ", ""),
        (
            "one two three four five six seven eight nine ten",
            "",
        ),  # 10 tokens and the two of start and end: full
        ("one two three four five six seven eight nine ten eleven twelve", "eleven twelve"),
    ],
)
def test_what_the_context_cuts_is_told(prompt_model: PromptModel, prompt: str, cut: str) -> None:
    assert prompt_model.truncated_words(prompt) == cut


@pytest.mark.parametrize("prompt", ["word " * 400, "🎩" * 500, "女" * 2000, "x" * 2000, "\u202e\u0000" * 1000])
def test_long_prompts_in_any_script(prompt_model: PromptModel, prompt: str) -> None:
    """What is reported as cut makes no difference to the features."""
    cut = prompt_model.truncated_words(prompt)
    assert len(cut) > 1000 or len(prompt) < 1000
    kept = prompt.strip().removesuffix(cut)
    torch.testing.assert_close(prompt_model.text_features([kept]), prompt_model.text_features([prompt]), rtol=0, atol=0)


RESNET = {"layers": [1, 1, 1, 1]}
VIT = {"layers": 1, "patch_size": 32}


@pytest.mark.parametrize("vision", [RESNET, VIT], ids=["ResNet", "ViT"])
def test_public_models_by_name_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vision: dict[str, Any]
) -> None:
    """Architectures of open_clip's registry with a local file: a ResNet and a ViT, small ones."""
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 96, "width": 64, **vision},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Small", config)
    network = open_clip.create_model("Small").eval()
    weights = tmp_path / "small.pt"
    torch.save(network.state_dict(), weights)
    model = load_prompt_model(f"open_clip:Small/{weights}")
    assert model.image_size == (96, 96)
    assert model.mean.flatten().tolist() == pytest.approx(open_clip.OPENAI_DATASET_MEAN)
    with torch.no_grad():
        expected = network.encode_text(open_clip.get_tokenizer("Small")(["a cat"]), normalize=True)
    torch.testing.assert_close(model.text_features(["a cat"]), expected)
    assert model.image_features(noise(1, 32)).shape == (1, 32)


def test_unknown_public_models() -> None:
    with pytest.raises(ModelError, match=r"no architecture 'ViT-B-23'; did you mean ViT-B-\d+"):
        load_prompt_model("open_clip:ViT-B-23/openai")
    with pytest.raises(ModelError, match=r"'opnai' is neither a file nor a tag of ViT-B-32; its tags: openai"):
        load_prompt_model("open_clip:ViT-B-32/opnai")
    with pytest.raises(ModelError, match="neither a file nor a tag"):
        load_prompt_model("open_clip:ViT-B-32")
    with pytest.raises(ModelError, match="no architecture 'local-dir:'"):
        load_prompt_model("open_clip:local-dir:/etc")


def test_a_failed_download_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("open_clip.download_pretrained", offline)
    with pytest.raises(ModelError, match=r"ViT-B-32/openai could not be loaded: .*no route to host"):
        load_prompt_model("open_clip:ViT-B-32/openai")


def test_damaged_bundles(damaged_assets: Path) -> None:
    folder = damaged_assets / "clip-mini"
    weights, config = folder / "clip-mini.safetensors", folder / "open_clip_config.json"
    original = config.read_text()
    config.write_text(original.replace("bicubic", "bilinear"))
    with pytest.raises(ModelError, match=r"open_clip_config\.json is damaged or was changed"):
        load_prompt_model("clip-mini", assets=damaged_assets)
    config.write_text(original)
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(ModelError, match=r"clip-mini\.safetensors is damaged or was changed"):
        load_prompt_model("clip-mini", assets=damaged_assets)
    with pytest.raises(ModelError, match=r"clip-mini\.safetensors is refused: it"):
        load_prompt_model(str(weights))
    weights.unlink()
    with pytest.raises(ModelError, match=r"clip-mini\.safetensors is missing"):
        load_prompt_model("clip-mini", assets=damaged_assets)


def test_local_checkpoints_need_their_configuration(tiny_assets: Path, tmp_path: Path) -> None:
    weights = Path(shutil.copy(tiny_assets / "clip-mini" / "clip-mini.safetensors", tmp_path))
    with pytest.raises(ModelError, match=r"Put its open_clip_config\.json into"):
        load_prompt_model(str(weights))
    other = {**CLIP_CONFIG["model_cfg"], "embed_dim": 32}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({**CLIP_CONFIG, "model_cfg": other}))
    with pytest.raises(ModelError, match="is not a checkpoint that fits"):
        load_prompt_model(str(weights))
    shutil.copy(weights, tmp_path / "second.safetensors")
    with pytest.raises(ModelError, match="must hold one checkpoint"):
        load_prompt_model(str(tmp_path))


TINY_VIT = {"layers": 2, "width": 64, "patch_size": 16, "image_size": 32}
TINY_TEXT = {"context_length": 12, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}


def test_torchscript_as_openai_gave_it_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code is not run: the network is built from the sizes of its weights, with OpenAI's QuickGELU."""
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "cache"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = open_clip.model.CLIP(24, TINY_VIT, TINY_TEXT, quick_gelu=True).eval()
    example = (torch.zeros(1, 3, 32, 32), torch.zeros(1, 12, dtype=torch.long))
    weights = tmp_path / "tiny.pt"
    torch.jit.trace(network, example, check_trace=False).save(weights)
    monkeypatch.setattr(torch.jit, "load", refuse_to_run)
    monkeypatch.setattr(torch, "load", refuse_to_run)
    model = load_prompt_model(str(weights))
    assert model.image_size == (32, 32)
    pictures = noise(2, 32)
    with torch.no_grad():
        expected = network.encode_image(model.preprocess(pictures), normalize=True)
        torch.testing.assert_close(model.image_features(pictures), expected)
        tokens = open_clip.SimpleTokenizer(context_length=12)(["a cat"])
        torch.testing.assert_close(model.text_features(["a cat"]), network.encode_text(tokens, normalize=True))


def refuse_to_run(*_: object, **__: object) -> None:
    raise AssertionError("a file was handed to a loader that may run what is in it")


def test_training_checkpoints_of_a_resnet_by_their_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`{"state_dict": {"module.": ...}}`, as open_clip's training writes: GELU, unlike OpenAI's."""
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "cache"))
    vision = {"layers": [1, 1, 1, 1], "width": 64, "image_size": 64}
    network = open_clip.model.CLIP(24, vision, TINY_TEXT).eval()
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "epoch_3.pt")
    monkeypatch.setattr(torch, "load", refuse_to_run)
    model = load_prompt_model(str(tmp_path / "epoch_3.pt"))
    pictures = noise(1, 64)
    with torch.no_grad():
        expected = network.encode_image(model.preprocess(pictures), normalize=True)
    torch.testing.assert_close(model.image_features(pictures), expected)


def test_generators_are_no_prompt_models(tiny_assets: Path) -> None:
    with pytest.raises(ModelError, match="holds a stylegan2, which reads no texts"):
        load_prompt_model(str(tiny_assets / "avatars" / "generator.safetensors"))


def test_a_tag_says_its_activation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """OpenAI's weights need QuickGELU, also under the name of the architecture that has none."""
    config = {"embed_dim": 24, "vision_cfg": TINY_VIT, "text_cfg": TINY_TEXT}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Tiny", config)
    tag = {"quick_gelu": True, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "hf_hub": "nobody/tiny/"}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "Tiny", {"own": tag})
    network = open_clip.model.CLIP(24, TINY_VIT, TINY_TEXT, quick_gelu=True).eval()
    torch.save(network.state_dict(), tmp_path / "tiny.pt")
    monkeypatch.setattr("open_clip.download_pretrained", lambda _: str(tmp_path / "tiny.pt"))
    model = load_prompt_model("open_clip:Tiny/own")
    assert model.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    pictures = noise(1, 32)
    with torch.no_grad():
        expected = network.encode_image(model.preprocess(pictures), normalize=True)
    torch.testing.assert_close(model.image_features(pictures), expected)


def test_the_tower_refuses_options_it_would_ignore() -> None:
    import timm

    with pytest.raises(ValueError, match="no options drop_path_rate"):
        timm.create_model("gmi_mini_tower", drop_path_rate=0.1)
    with pytest.raises(ValueError, match="pools by itself"):
        MiniTower().reset_classifier(0, global_pool="avg")


def test_no_architecture_is_built_that_the_file_cannot_fill(tmp_path: Path) -> None:
    """ViT-H-14 has 10^9 numbers, which would be made before they are compared; this file has two."""
    torch.save({"logit_scale": torch.ones(1), "visual.proj": torch.ones(1)}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match="its layers would take more than 4,194,308 numbers, far more than it holds"):
        load_prompt_model(f"open_clip:ViT-H-14/{tmp_path / 'x.pt'}")

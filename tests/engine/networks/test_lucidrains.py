"""lucidrains' StyleGAN2: its layers' formulas over again in float64, the usual shapes, and files of a training.

The formulas walk the state dict with torch's functions and know no module. A tolerance of 1e-10, relative to the
largest entry, is float64's rounding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine import __main__ as cli
from engine.checkpoints import open_checkpoint
from engine.errors import ModelError
from engine.models.loading import load_generator
from engine.networks.lucidrains import NOISE_SEED, Generator, generator_from_shapes
from tests.engine import lucidrains_files
from tests.engine.lucidrains_files import DEPTH, DIM, averaged_state, write_training
from tests.engine.networks.checks import assert_cotangents_pull_back_together, normal
from tests.goldens import assert_near, shapes

State = dict[str, Tensor]

KINDS: dict[str, dict[str, Any]] = {
    "usual": {},
    "32 px, few channels at most": {"side": 32, "most": 8},
    "attention": {"attention": (1, 2)},
    "no constant": {"has_constant": False},
    "transparent": {"colours": 4},
    "before colours were blurred": {"blurs": False},
}


def built(state: State) -> Generator:
    network = generator_from_shapes(state).double()
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def state_of(kind: str) -> State:
    return {key: value.double() for key, value in averaged_state(**KINDS[kind]).items()}


# ---- the formulas ----------------------------------------------------------------------------------------


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def mapped(z: Tensor, state: State) -> Tensor:
    x = z / z.square().sum(1, keepdim=True).sqrt()
    for i in range(DEPTH):
        x = leaky(0.1 * (x @ state[f"SE.net.{2 * i}.weight"].T + state[f"SE.net.{2 * i}.bias"]))
    return x


def line(x: Tensor, state: State, name: str) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def modulated(x: Tensor, w: Tensor, weight: Tensor, demodulates: bool) -> Tensor:
    """A weight for each picture, convolved with it alone."""
    made = []
    for picture, style in zip(x, w, strict=True):
        own = weight * (style + 1)[None, :, None, None]
        if demodulates:
            own = own / (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        made.append(F.conv2d(picture[None], own, padding=weight.shape[-1] // 2))
    return torch.cat(made)


def doubled(x: Tensor) -> Tensor:
    """Each new pixel lies a quarter from the nearest old one: 3/4 of it and 1/4 of the next; the edge repeats."""
    for axis in (2, 3):
        length = x.shape[axis]
        at = torch.arange(length)
        before = x.index_select(axis, (at - 1).clamp_min(0))
        after = x.index_select(axis, (at + 1).clamp_max(length - 1))
        x = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1).flatten(axis, axis + 1)
    return x


def blurred(x: Tensor) -> Tensor:
    """(1, 2, 1) / 4 along both axes; beyond the edge, the pixel after it."""
    for axis in (2, 3):
        length = x.shape[axis]
        at = torch.arange(length)
        before = x.index_select(axis, (at - 1).abs())
        after = x.index_select(axis, length - 1 - (length - 2 - at).abs())
        x = (before + 2 * x + after) / 4
    return x


def channel_norm(x: Tensor, state: State, name: str) -> Tensor:
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).square().mean(1, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * state[f"{name}.g"] + state[f"{name}.b"]


def attended(x: Tensor, state: State, name: str) -> Tensor:
    y = channel_norm(x, state, f"{name}.0.fn.norm")
    q = F.conv2d(y, state[f"{name}.0.fn.fn.to_q.weight"])
    pairs = F.conv2d(y, state[f"{name}.0.fn.fn.to_kv.net.0.weight"], padding=1, groups=y.shape[1])
    k, v = F.conv2d(pairs, state[f"{name}.0.fn.fn.to_kv.net.1.weight"]).chunk(2, 1)
    heads = []
    for start in range(0, q.shape[1], 64):
        one, two, three = (part[:, start : start + 64] for part in (q, k, v))
        weights = two.exp() / two.exp().sum((2, 3), keepdim=True)
        context = torch.einsum("ndxy,nexy->nde", weights, three)
        heads.append(torch.einsum("ndxy,nde->nexy", one.softmax(1) / 8, context))
    z = F.gelu(torch.cat(heads, 1))
    x = x + F.conv2d(z, state[f"{name}.0.fn.fn.to_out.weight"], state[f"{name}.0.fn.fn.to_out.bias"])
    y = channel_norm(x, state, f"{name}.1.fn.norm")
    y = leaky(F.conv2d(y, state[f"{name}.1.fn.fn.0.weight"], state[f"{name}.1.fn.fn.0.bias"]))
    return x + F.conv2d(y, state[f"{name}.1.fn.fn.2.weight"], state[f"{name}.1.fn.fn.2.bias"])


def drawn(w: Tensor, state: State, noise: Tensor) -> Tensor:
    """noise: [R, R]."""
    if "GE.initial_block" in state:
        x = state["GE.initial_block"].expand(len(w), -1, -1, -1)
    else:
        x = torch.einsum("ni,ichw->nchw", w, state["GE.to_initial_block.weight"])
    x = F.conv2d(x, state["GE.initial_conv.weight"], state["GE.initial_conv.bias"], padding=1)
    colours, i = torch.zeros(()), 0
    while f"GE.blocks.{i}.conv1.weight" in state:
        at = f"GE.blocks.{i}"
        if f"GE.attns.{i}.0.fn.norm.g" in state:
            x = attended(x, state, f"GE.attns.{i}")
        x = doubled(x) if i else x
        part = noise[: x.shape[2], : x.shape[3]].T
        for layer in ("1", "2"):
            x = modulated(x, line(w, state, f"{at}.to_style{layer}"), state[f"{at}.conv{layer}.weight"], True)
            strength, bias = (state[f"{at}.to_noise{layer}.{kind}"].flatten() for kind in ("weight", "bias"))
            x = leaky(x + strength[:, None, None] * part + bias[:, None, None])
        style = line(w, state, f"{at}.to_rgb.to_style")
        colours = colours + modulated(x, style, state[f"{at}.to_rgb.conv.weight"], False)
        i += 1
        if f"GE.blocks.{i}.conv1.weight" in state:
            colours = doubled(colours)
            colours = blurred(colours) if f"{at}.to_rgb.upsample.1.f" in state else colours
    if colours.shape[1] == 4:
        alpha = colours[:, 3:].clamp(0, 1)
        colours = colours[:, :3] * alpha + 1 - alpha
    return 2 * colours - 1


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_the_formulas_say(kind: str) -> None:
    state = state_of(kind)
    network = built(state)
    z = normal(3, DIM, seed=1)
    w = network.to_w(z)
    assert_near(w, mapped(z, state), 1e-10)
    assert_near(network.to_w(5 * z), w, 1e-10)  # a direction
    images, noise = network.synthesis(w), network.GE.noise[0, :, :, 0]
    side = KINDS[kind].get("side", 16)
    assert images.shape == (3, 3, side, side) and network.img_resolution == side
    assert_near(images, drawn(w, state, noise), 1e-10)
    assert torch.equal(network(z), images)
    random = torch.Generator().manual_seed(NOISE_SEED)
    assert torch.equal(noise, torch.rand(1, side, side, 1, generator=random)[0, :, :, 0].double())


def test_the_gradient_and_several_cotangents_at_once() -> None:
    network = built(state_of("attention"))
    z = normal(2, DIM, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: network(z)[:, :, 3::5, 2::5], z)
    assert_cotangents_pull_back_together(network, normal(2, DIM, seed=2))


def test_the_usual_shapes() -> None:
    """128 px with a capacity of 16 and attention before the fifth block, as `--attn-layers 2` trains it."""
    made = lucidrains_files.generator_state(128, 512, 16, attention=(4,), inner=512, device="meta")
    state = lucidrains_files.prefixed("GE", made)
    state |= lucidrains_files.prefixed("SE", lucidrains_files.mapping_state(512, 8, device="meta"))
    network = generator_from_shapes(state, device="meta")
    assert shapes(network.state_dict()) == shapes(state)
    widths = [len(network.get_parameter(f"GE.blocks.{i}.conv1.weight")) for i in range(6)]
    assert widths == [512, 512, 256, 128, 64, 32]
    assert (network.z_dim, network.w_dim, network.img_resolution) == (512, 512, 128)


# ---- files -----------------------------------------------------------------------------------------------


def test_a_training_opens_as_its_averaged_generator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = write_training(tmp_path / "model_12.pt")
    opened = open_checkpoint(tmp_path / "model_12.pt")
    assert (opened.family, opened.provenance.format) == ("lucidrains", "lucidrains StyleGAN2 file (torch zip archive)")
    assert opened.provenance.notes == ("found under GAN", "not used: version", "not used: D, D_aug, G, S")
    assert opened.networks["generator"].keys() == state.keys()
    model = load_generator(str(tmp_path / "model_12.pt"))
    assert (model.resolution, model.default_space, list(model.spaces)) == (16, "w", ["z", "w", "w_plain"])
    latents = model.spaces["z"].sample([1, 2])
    expected = built({key: value.double() for key, value in state.items()})(latents.double()).float()
    torch.testing.assert_close(model.render(latents, "z"), expected, rtol=1e-3, atol=1e-4)
    assert cli.main(["models", "check", str(tmp_path / "model_12.pt")]) == 0
    assert "nothing was refused" in capsys.readouterr().out


def test_a_mapping_trained_at_another_rate(tmp_path: Path) -> None:
    write_training(tmp_path / "model_12.pt")
    slow = open_checkpoint(tmp_path / "model_12.pt", given={"lr_multiplier": 0.01})
    assert slow.configuration["generator"]["lr_multiplier"].value == 0.01


@pytest.mark.usefixtures("tiny_bundle")
def test_it_generates(tmp_path: Path) -> None:
    write_training(tmp_path / "model_12.pt")
    options = ["--n", "2", "--steps", "2", "--threads", "1", "--prompt-model", "clip-mini"]
    for name in ("first", "second"):
        out = ["--model", str(tmp_path / "model_12.pt"), "--out", str(tmp_path / name)]
        assert cli.main(["generate", "a smile", *out, *options]) == 0
    first, second = ((tmp_path / name / "01.png").read_bytes() for name in ("first", "second"))
    assert first == second


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"GE.attns.1.0.fn.fn.to_q.weight": torch.ones(64, 8, 1, 1)}, "attention of an early version"),
        ({"GE.blocks.0.to_rgb.conv.weight": torch.ones(2, 8, 1, 1)}, "draws 2 channels, expected 3, or 4"),
        ({"SE.net.4.weight": torch.ones(5, 6)}, "w of 5 numbers, its generator takes 6"),
    ],
)
def test_what_does_not_fit(changes: State, reason: str, tmp_path: Path) -> None:
    torch.save({"GAN": averaged_state() | changes}, tmp_path / "model_1.pt")
    with pytest.raises(ModelError, match=reason):
        load_generator(str(tmp_path / "model_1.pt"))

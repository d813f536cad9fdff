"""DALL-E's dVAE: the golden tensors, the public shapes, and its own mathematics.

Tolerances as for StyleGAN2: 1e-10 in float64 and 1e-4 in float32, both relative to the largest entry.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.networks.dalle_dvae import (
    Convolution,
    Decoder,
    Encoder,
    decoder_from_shapes,
    encoder_from_shapes,
    map_pixels,
    unmap_pixels,
)
from tests.goldens import Golden, assert_near, golden, manifest_state, shapes

PRECISIONS = [
    pytest.param(torch.float64, "out64", 1e-10, id="float64"),
    pytest.param(torch.float32, "out", 1e-4, id="float32"),
]


def load(about: Golden, dtype: torch.dtype) -> tuple[Encoder, Decoder]:
    states: dict[str, dict[str, Tensor]] = {part: {} for part in ("encoder", "decoder")}
    for key, value in about.group("state", dtype).items():
        part, _, name = key.partition(".")
        states[part][name] = value
    encoder, decoder = encoder_from_shapes(states["encoder"]), decoder_from_shapes(states["decoder"])
    for network, state in ((encoder, states["encoder"]), (decoder, states["decoder"])):
        network.to(dtype).load_state_dict(state, strict=True)
        network.eval().requires_grad_(False)
    return encoder, decoder


def clamped(statistics: Tensor) -> Tensor:
    """Pixels in [0, 1] as the reference makes them."""
    return unmap_pixels(statistics[:, :3].sigmoid()).clamp(0, 1)


@pytest.mark.parametrize(("dtype", "prefix", "tolerance"), PRECISIONS)
def test_encoder_matches_golden(dtype: torch.dtype, prefix: str, tolerance: float) -> None:
    about = golden("dalle_dvae_tiny")
    encoder, _ = load(about, dtype)
    inputs, expected = about.group("in", dtype), about.group(prefix)
    images = inputs["image01"].requires_grad_()
    logits = encoder(map_pixels(images))
    (gradient,) = torch.autograd.grad((logits * inputs["enc_grad_weight"]).sum(), images)
    assert_near(map_pixels(images), expected["mapped"], tolerance)
    assert_near(logits, expected["z_logits"], tolerance)
    assert_near(gradient, expected["enc_grad_image"], tolerance)
    assert torch.equal(logits.argmax(1), about.tensors["out.indices"])


@pytest.mark.parametrize(("dtype", "prefix", "tolerance"), PRECISIONS)
def test_decoder_matches_golden(dtype: torch.dtype, prefix: str, tolerance: float) -> None:
    """One-hot codes by either entrance, and soft codes with their gradient."""
    about = golden("dalle_dvae_tiny")
    _, decoder = load(about, dtype)
    inputs, expected = about.group("in", dtype), about.group(prefix)
    indices = about.tensors["out.indices"]
    one_hot = F.one_hot(indices, decoder.vocab_size).permute(0, 3, 1, 2).to(dtype)
    assert_near(decoder(one_hot), expected["x_stats_onehot"], tolerance)
    assert_near(clamped(decoder.from_indices(indices)), expected["img_rec"], tolerance)
    assert_near(
        clamped(decoder.from_indices(about.tensors["in.rand_indices"])), expected["img_from_indices"], tolerance
    )
    probabilities = inputs["soft_logits"].softmax(1).requires_grad_()
    statistics = decoder(probabilities)
    pictures = clamped(statistics)
    (gradient,) = torch.autograd.grad((pictures * inputs["grad_weight"]).sum(), probabilities)
    assert_near(statistics, expected["x_stats_soft"], tolerance)
    assert_near(pictures, expected["img_soft"], tolerance)
    assert_near(gradient, expected["grad_soft"], tolerance)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_full_size_shapes_match_manifest(part: str) -> None:
    state = manifest_state(f"dalle_{part}")
    network = {"encoder": encoder_from_shapes, "decoder": decoder_from_shapes}[part](state, device="meta")
    assert shapes(network.state_dict()) == shapes(state)
    assert all(value.device.type == "meta" for value in network.state_dict().values())


def test_post_gain_is_one_over_the_squared_number_of_blocks() -> None:
    """Four groups of two blocks: 1 / 64."""
    decoder = decoder_from_shapes(manifest_state("dalle_decoder"), device="meta")
    blocks = [module for module in decoder.modules() if hasattr(module, "post_gain")]
    assert len(blocks) == 8
    assert all(block.post_gain == 1 / 64 for block in blocks)


def test_images_keep_a_gradient_where_the_reference_clamps() -> None:
    """At a logit of 3 the reference's picture is white and stays white; ours is 1.13 and can still change."""
    decoder = Decoder(4, 8, n_init=4, n_blk_per_group=1)
    statistics = torch.full((1, 6, 2, 2), 3.0, requires_grad=True)
    assert clamped(statistics).min() == 1
    images = decoder.images(statistics)
    (gradient,) = torch.autograd.grad(images.sum(), statistics)
    assert images.shape == (1, 3, 2, 2)
    assert (images > 1).all() and (images < 1.25).all()
    assert (gradient[:, :3] > 0.1).all()
    torch.testing.assert_close(images.clamp(-1, 1), 2 * clamped(statistics) - 1)


def test_doubling_equals_repeating_and_convolving() -> None:
    layer = Convolution(3, 4, 3).double()
    x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain = F.conv2d(F.interpolate(x, scale_factor=2), layer.w, layer.b, padding=1)
    assert_near(layer(x, up=True), plain, 1e-12)


def test_pixels_are_mapped_back() -> None:
    images = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(unmap_pixels(map_pixels(images)), images)
    assert map_pixels(images).min() == pytest.approx(0.1) and map_pixels(images).max() == pytest.approx(0.9)


def test_any_number_of_groups_is_rebuilt_from_its_shapes() -> None:
    for groups, blocks in ((2, 1), (3, 2)):
        encoder = Encoder(4, 6, groups=groups, n_blk_per_group=blocks)
        decoder = Decoder(4, 6, n_init=5, groups=groups, n_blk_per_group=blocks)
        side = 2 ** (groups - 1)
        encoder_twin, decoder_twin = (
            encoder_from_shapes(encoder.state_dict()),
            decoder_from_shapes(decoder.state_dict()),
        )
        encoder_twin.load_state_dict(encoder.state_dict())
        decoder_twin.load_state_dict(decoder.state_dict())
        images = torch.rand(1, 3, 4 * side, 4 * side)
        assert torch.equal(encoder_twin(images), encoder(images))
        assert encoder(images).shape == (1, 6, 4, 4)
        assert torch.equal(
            decoder_twin(images[:, :1, :4, :4].expand(1, 6, 4, 4)), decoder(images[:, :1, :4, :4].expand(1, 6, 4, 4))
        )
        assert decoder_twin.scale_factor == side


def test_wrong_files_are_explained() -> None:
    with pytest.raises(ValueError, match="a dVAE encoder under OpenAI's names: it lacks 'blocks.input.w'"):
        encoder_from_shapes({})
    with pytest.raises(ValueError, match="a dVAE decoder under OpenAI's names: it lacks 'blocks.input.w'"):
        decoder_from_shapes({})

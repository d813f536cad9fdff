"""VQGAN with plain and Gumbel codebook: the golden tensors, the public shapes, and its own mathematics.

Tolerances as for StyleGAN2: 1e-10 in float64 and 1e-4 in float32, both relative to the largest entry.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.networks.vqgan import VQGAN, PlainCodebook, Upsample, vqgan_from_shapes
from tests.goldens import Golden, assert_near, golden, manifest_state, shapes

MANIFESTS = ("vqgan_imagenet_f16_1024", "vqgan_imagenet_f16_16384", "vqgan_gumbel_f8_8192")
PRECISIONS = [
    pytest.param(torch.float64, "out64", 1e-10, id="float64"),
    pytest.param(torch.float32, "out", 1e-4, id="float32"),
]


def load(about: Golden, dtype: torch.dtype = torch.float32) -> VQGAN:
    network = vqgan_from_shapes(about.group("state")).to(dtype)
    network.load_state_dict(about.group("state", dtype), strict=True)
    return network.eval().requires_grad_(False)


def grid(indices: Tensor) -> Tensor:
    """Flat indices in the order batch, row, column -> [N, 4, 4]."""
    return indices.view(2, 4, 4)


@pytest.mark.parametrize(("dtype", "prefix", "tolerance"), PRECISIONS)
def test_encoder_and_decoder_match_golden(dtype: torch.dtype, prefix: str, tolerance: float) -> None:
    about = golden("vqgan_tiny")
    network = load(about, dtype)
    inputs, expected = about.group("in", dtype), about.group(prefix)
    assert_near(network.encoder(inputs["x"]), expected["enc"], tolerance)
    assert_near(network.decode(network.quantized(network.encode(inputs["x"]))), expected["rec"], tolerance)
    vectors = inputs["quant"].requires_grad_()
    images = network.decode(vectors)
    (gradient,) = torch.autograd.grad((images * inputs["grad_weight"]).sum(), vectors)
    assert_near(images, expected["img"], tolerance)
    assert_near(gradient, expected["grad_quant"], tolerance)


def test_details_match_golden() -> None:
    """What only the float32 run recorded, codes included."""
    about = golden("vqgan_tiny")
    network = load(about)
    inputs, expected = about.group("in"), about.group("out")
    encoded = network.encode(inputs["x"])
    codes = grid(inputs["indices"])
    assert_near(encoded, expected["pre_quant"], 1e-4)
    assert torch.equal(network.quantize.indices(encoded), grid(expected["indices"]))
    assert_near(network.quantized(encoded), expected["quantized"], 1e-4)
    widened = network.post_quant_conv(inputs["quant"])
    assert_near(widened, expected["post_quant"], 1e-4)
    assert_near(network.decoder.mid.attn_1(network.decoder.conv_in(widened)), expected["mid_attn"], 1e-4)
    assert_near(network.lookup(codes), expected["codebook_entry"], 1e-4)
    assert_near(network.decode(network.lookup(codes)), expected["img_from_indices"], 1e-4)


def test_gumbel_codebook_matches_golden() -> None:
    """A file with the decoder alone; codes by the largest logit, without noise."""
    about = golden("vqgan_gumbel_tiny")
    network = load(about)
    inputs, expected = about.group("in"), about.group("out")
    codes = grid(inputs["indices"])
    assert_near(network.quantize.proj(inputs["pre_quant"]), expected["proj_logits"], 1e-4)  # type: ignore[operator]
    assert torch.equal(network.quantize.indices(inputs["pre_quant"]), expected["argmax_indices"])
    assert_near(network.lookup(codes), expected["codebook_entry"], 1e-4)
    assert_near(network.decode(network.lookup(codes)), expected["img_from_indices"], 1e-4)
    with pytest.raises(ValueError, match="decoder alone"):
        network.encode(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("name", MANIFESTS)
def test_full_size_shapes_match_manifest(name: str) -> None:
    state = manifest_state(name)
    network = vqgan_from_shapes(state, device="meta")
    assert shapes(network.state_dict()) == shapes(state)
    assert all(value.device.type == "meta" for value in network.state_dict().values())
    assert network.scale_factor == (8 if "f8" in name else 16)


def test_the_nearest_code_is_nearest() -> None:
    """Against all distances written out."""
    codebook = PlainCodebook(11, 3).double()
    z = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    distances = (z.permute(0, 2, 3, 1)[..., None, :] - codebook.codes()).norm(dim=-1)
    assert torch.equal(codebook.indices(z), distances.argmin(-1))


def test_doubling_equals_repeating_and_convolving() -> None:
    layer = Upsample(3).double()
    x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_near(layer(x), layer.conv(F.interpolate(x, scale_factor=2)), 1e-12)


def test_wrong_files_are_explained() -> None:
    with pytest.raises(ValueError, match="taming-transformers: it lacks 'decoder.conv_in.weight'"):
        vqgan_from_shapes({})

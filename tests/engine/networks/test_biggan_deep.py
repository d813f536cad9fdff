"""BigGAN-deep: the golden tensors, the public shapes, and its own mathematics.

Tolerances as for StyleGAN2: 1e-10 in float64 and 1e-4 in float32, both relative to the largest entry.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.networks.biggan_deep import BatchNorm, BigGAN, Convolution, draw_weights, generator_from_shapes
from tests.engine.networks.checks import normal
from tests.goldens import Golden, assert_near, golden, manifest, manifest_state, shapes

MANIFESTS = ("biggan-deep-128", "biggan-deep-256", "biggan-deep-512")
PRECISIONS = [
    pytest.param(torch.float64, "out64", 1e-10, id="float64"),
    pytest.param(torch.float32, "out", 1e-4, id="float32"),
]


def load(about: Golden, dtype: torch.dtype) -> BigGAN:
    up = [layer[0] for layer in about.about["config"]["layers"]]
    network = generator_from_shapes(about.group("state"), up=up).to(dtype)
    network.load_state_dict(about.group("state", dtype), strict=True)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize(("dtype", "prefix", "tolerance"), PRECISIONS)
def test_generator_matches_golden(dtype: torch.dtype, prefix: str, tolerance: float) -> None:
    """Images at every recorded truncation, and the gradients by z and by the class weights."""
    about = golden("biggan_deep_tiny")
    network = load(about, dtype)
    inputs, expected = about.group("in", dtype), about.group(prefix)
    z, classes = inputs["z"].requires_grad_(), inputs["class"].requires_grad_()
    images = network(z, classes, 0.4)
    gradients = torch.autograd.grad((images * inputs["grad_weight"]).sum(), [z, classes])
    assert_near(images, expected["img_t0.4"], tolerance)
    assert_near(gradients[0], expected["grad_z"], tolerance)
    assert_near(gradients[1], expected["grad_class"], tolerance)
    truncations = [key.removeprefix("img_t") for key in expected if key.startswith("img_t")]
    assert len(truncations) >= 2
    for truncation in truncations:
        assert_near(network(z, classes, float(truncation)), expected[f"img_t{truncation}"], tolerance)


def test_generator_details_match_golden() -> None:
    """What only the float32 run recorded: embedding, first grid and the outputs of three layers."""
    about = golden("biggan_deep_tiny")
    network = load(about, torch.float32)
    inputs, expected = about.group("in"), about.group("out")
    recorded: dict[int, Tensor] = {}
    for i in (0, 1, 4):
        network.generator.layers[i].register_forward_hook(
            lambda module, arguments, output, i=i: recorded.update({i: output})
        )
    network(inputs["z"], inputs["class"], 0.4)
    embedded = network.embed_classes(inputs["class"])
    assert_near(embedded, expected["embed"], 1e-4)
    assert_near(network.generator.gen_z(torch.cat([inputs["z"], embedded], dim=1)), expected["gen_z"], 1e-4)
    for i in (0, 1, 4):
        assert_near(recorded[i], expected[f"layer{i}_t0.4"], 1e-4)


@pytest.mark.parametrize("name", MANIFESTS)
def test_full_size_shapes_match_manifest(name: str) -> None:
    """Keys and shapes of the public checkpoints; the blocks that double the side are those of their configuration."""
    state = manifest_state(name)
    network = generator_from_shapes(state, device="meta")
    config = manifest(name)["config"]
    assert shapes(network.state_dict()) == shapes(state)
    assert all(value.device.type == "meta" for value in network.state_dict().values())
    blocks = [layer for i, layer in enumerate(network.generator.layers) if i != config["attention_layer_position"]]
    assert [block.up for block in blocks] == [layer[0] for layer in config["layers"]]
    assert network.img_resolution == config["output_dim"]
    assert (network.z_dim, network.num_classes) == (config["z_dim"], config["num_classes"])


def test_statistics_between_rows_keep_the_references_weights() -> None:
    """.43 of ten steps lies .3 past row 4, which gets weight .3; on row 4 itself it counts alone."""
    norm = BatchNorm(1, 0, n_stats=11, eps=1e-4).double()
    norm.running_means.copy_(torch.arange(11.0)[:, None] ** 2)
    assert norm.statistics(0.4)[0].item() == 16
    assert norm.statistics(0.43)[0].item() == pytest.approx(0.3 * 16 + 0.7 * 25)
    assert norm.statistics(1.0)[0].item() == 100


def test_rounding_selects_the_row_before() -> None:
    """.58 and .94 are rows 29 and 47 of 51 in decimal, but just below them in binary."""
    norm = BatchNorm(1, 0, n_stats=51, eps=1e-4).double()
    norm.running_means.copy_(torch.arange(51.0)[:, None])
    assert norm.statistics(0.58)[0].item() == pytest.approx(28)
    assert norm.statistics(0.94)[0].item() == pytest.approx(46)
    assert norm.statistics(0.5)[0].item() == 25


def test_drawn_weights_have_a_spectral_norm_of_one() -> None:
    layer = Convolution(6, 5, 3).double()
    draw_weights(layer, torch.Generator().manual_seed(0))
    layer.settle(200)
    scaled = layer.weight_orig.flatten(1) * layer.gain()
    assert torch.linalg.matrix_norm(scaled, ord=2).item() == pytest.approx(1, rel=1e-8)


def test_doubling_equals_repeating_and_convolving() -> None:
    layer = Convolution(3, 4, 3).double()
    assert layer.bias is not None
    torch.nn.init.constant_(layer.bias, 0.2)
    x = normal(2, 3, 5, 6).requires_grad_()
    plain = F.conv2d(F.interpolate(x, scale_factor=2), layer.weight_orig, layer.bias, padding=1)
    found = layer.convolve(x, up=True)
    assert_near(found, plain, 1e-12)
    upstream = normal(2, 4, 10, 12, seed=1)
    inputs = [x, layer.weight_orig, layer.bias]
    for mine, theirs in zip(
        torch.autograd.grad(found, inputs, upstream), torch.autograd.grad(plain, inputs, upstream), strict=True
    ):
        assert_near(mine, theirs, 1e-12)


def test_class_indices_equal_one_hot_weights() -> None:
    about = golden("biggan_deep_tiny")
    network, z = load(about, torch.float64), about.group("in", torch.float64)["z"]
    classes = torch.tensor([3, 7])
    assert_near(network(z, classes), network(z, F.one_hot(classes, 10).double()), 1e-12)


def test_wrong_input_is_explained() -> None:
    network = BigGAN(4, 4, 3, channel_width=4, channels=[(16, 16), (16, 4)], up=[False, True], n_stats=3)
    with pytest.raises(ValueError, match="truncation must lie above 0"):
        network(torch.zeros(1, 4), torch.zeros(1, 3), 0.0)
    with pytest.raises(ValueError, match=r"expected z of shape \[N, 4\]"):
        network(torch.zeros(1, 5), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="Hugging Face's names: it lacks"):
        generator_from_shapes({})
    with pytest.raises(ValueError, match="each of 2 blocks"):
        BigGAN(4, 4, 3, channel_width=4, channels=[(16, 16), (16, 4)], up=[True])

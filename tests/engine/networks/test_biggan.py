"""BigGAN under ajbrock's names: the golden tensors, the public shapes, and its own mathematics.

Tolerances as for StyleGAN2: 1e-10 in float64 and 1e-4 in float32, both relative to the largest entry.
"""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.networks import biggan
from engine.networks.biggan import (
    Convolution,
    Discriminator,
    DiscriminatorBlock,
    Generator,
    GeneratorBlock,
    discriminator_from_shapes,
    draw_weights,
    generator_from_shapes,
)
from tests.engine.networks.checks import normal
from tests.goldens import assert_near, golden, manifest_state, shapes

MANIFESTS = ("biggan_ajbrock_128", "biggan_ajbrock_256", "biggan_ajbrock_512")
PRECISIONS = [
    pytest.param(torch.float64, "out64", 1e-10, id="float64"),
    pytest.param(torch.float32, "out", 1e-4, id="float32"),
]


def tiny_generator(**options: object) -> Generator:
    arguments: dict[str, object] = {"channels": [(16, 8), (8, 8)], "attention": {0}} | options
    network = Generator(9, 5, 4, **arguments).double()  # type: ignore[arg-type]
    draw_weights(network, torch.Generator().manual_seed(0))
    torch.nn.init.constant_(network.blocks[0][1].gamma, 0.7)  # type: ignore[index]
    return network.eval()


def tiny_discriminator() -> Discriminator:
    channels = [(3, 8, 8), (8, 8, 16), (16, 16, 16)]
    network = Discriminator(5, channels=channels, down=[True, True, False], attention={0}).double()
    draw_weights(network, torch.Generator().manual_seed(1))
    return network.eval()


# ---- goldens ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "prefix", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("frozen", [True, False])
def test_generator_matches_golden(dtype: torch.dtype, prefix: str, tolerance: float, frozen: bool) -> None:
    """Images and gradients, with derived weights kept (frozen) and computed anew in the graph."""
    about = golden("biggan_ajbrock_tiny")
    network = generator_from_shapes(about.group("state")).to(dtype).eval().requires_grad_(not frozen)
    network.load_state_dict(about.group("state", dtype), strict=True)
    inputs, expected = about.group("in", dtype), about.group(prefix)
    z = inputs["z"].requires_grad_()
    y = network.embed_classes(inputs["y"]).detach().requires_grad_()
    for _ in range(2):  # the second pass uses what the first one kept
        images = network(z, y)
        gradient_z, gradient_y = torch.autograd.grad((images * inputs["grad_weight"]).sum(), [z, y])
        assert_near(images, expected["img"], tolerance)
        assert_near(gradient_z, expected["grad_z"], tolerance)
        assert_near(gradient_y, expected["grad_shared"], tolerance)
    soft = network(z, network.embed_classes(inputs["soft_y"]))
    assert_near(soft, expected["img_soft_class"], tolerance)


def test_generator_details_match_golden() -> None:
    """What only the float32 run recorded: the class embedding and the linear layer's output."""
    about = golden("biggan_ajbrock_tiny")
    network = generator_from_shapes(about.group("state")).eval().requires_grad_(False)
    network.load_state_dict(about.group("state"), strict=True)
    inputs, expected = about.group("in"), about.group("out")
    assert_near(network.embed_classes(inputs["y"]), expected["shared"], 1e-4)
    assert_near(network.linear(inputs["z"][:, : network.chunk]), expected["linear"], 1e-4)


@pytest.mark.parametrize("name", MANIFESTS)
def test_full_size_shapes_match_manifest(name: str) -> None:
    """Keys and shapes of the public checkpoints, without allocating a weight."""
    state = manifest_state(name)
    network = generator_from_shapes(state, device="meta")
    assert shapes(network.state_dict()) == shapes(state)
    assert all(value.device.type == "meta" for value in network.state_dict().values())
    assert network.img_resolution == int(name.rsplit("_", 1)[1])


# ---- mathematics -----------------------------------------------------------------------------------------


def plain_weight(layer: biggan.SpectralNorm) -> Tensor:
    """W / sigma with sigma = v W^T u^T written as the reference writes it."""
    matrix = layer.weight.flatten(1)
    v = F.normalize(layer.u0 @ matrix, dim=1)
    u = F.normalize(v @ matrix.t(), dim=1)
    sigma = v.detach() @ matrix.t() @ u.detach().t()
    return layer.weight / sigma.squeeze()


def plain_norm(norm: biggan.BatchNorm, x: Tensor, y: Tensor) -> Tensor:
    gain, bias = 1 + y @ plain_weight(norm.gain).t(), y @ plain_weight(norm.bias).t()
    x = (x - norm.stored_mean[:, None, None]) / (norm.stored_var[:, None, None] + norm.eps).sqrt()
    return (x * gain[:, :, None, None] + bias[:, :, None, None]).relu()


def test_generator_block_equals_the_plain_formulation() -> None:
    """Norm, ReLU, repeat, convolve, with every weight divided by its sigma: values, and gradients by everything."""
    block = GeneratorBlock(5, 4, 3, 1e-5).double().eval()
    draw_weights(block, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for buffer in (block.bn1.stored_var, block.bn2.stored_var):
            buffer.uniform_(0.5, 2.0)
    x, y = normal(2, 5, 4, 4).requires_grad_(), normal(2, 3, seed=1).requires_grad_()
    h = F.interpolate(plain_norm(block.bn1, x, y), scale_factor=2)
    h = F.conv2d(h, plain_weight(block.conv1), block.conv1.bias, padding=1)
    h = F.conv2d(plain_norm(block.bn2, h, y), plain_weight(block.conv2), block.conv2.bias, padding=1)
    rest = F.conv2d(F.interpolate(x, scale_factor=2), plain_weight(block.conv_sc), block.conv_sc.bias)
    expected, found = h + rest, block(x, y)
    assert_near(found, expected, 1e-12)
    upstream, inputs = normal(2, 4, 8, 8, seed=2), [x, y, *block.parameters()]
    pairs = zip(
        torch.autograd.grad(found, inputs, upstream), torch.autograd.grad(expected, inputs, upstream), strict=True
    )
    for mine, theirs in pairs:
        assert_near(mine, theirs, 1e-10)


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("down", [True, False])
def test_discriminator_block_equals_the_plain_formulation(is_first: bool, down: bool) -> None:
    """Only later blocks start with a ReLU; wherever the shortcut shrinks, it is the same."""
    block = DiscriminatorBlock(3, 4, 5, is_first=is_first, down=down, shortcut=True).double().eval()
    draw_weights(block, torch.Generator().manual_seed(0))
    assert block.conv_sc is not None
    torch.nn.init.constant_(block.conv_sc.bias, 0.3)  # type: ignore[arg-type]
    x = normal(2, 3, 8, 8).requires_grad_()
    h = F.conv2d(x if is_first else x.relu(), plain_weight(block.conv1), block.conv1.bias, padding=1)
    h = F.conv2d(h.relu(), plain_weight(block.conv2), block.conv2.bias, padding=1)
    rest = F.conv2d(x, plain_weight(block.conv_sc), block.conv_sc.bias)
    expected = F.avg_pool2d(h + rest, 2) if down else h + rest
    assert_near(block(x), expected, 1e-12)


def test_spectral_norm_reaches_the_largest_singular_value() -> None:
    """Power steps in training mode move u0 until sigma is the largest singular value; evaluation leaves it."""
    layer = Convolution(6, 7, 3).double()
    draw_weights(layer, torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.weight.copy_(normal(7, 6, 3, 3))
    largest = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
    with torch.no_grad():
        for _ in range(200):
            layer.gain()
    assert_near(1 / layer.gain(), largest, 1e-8)
    assert_near(layer.sv0[0], largest, 1e-8)
    u0 = layer.u0.clone()
    layer.eval().gain()
    assert torch.equal(layer.u0, u0)


def test_kept_weights_follow_the_weights() -> None:
    """What a frozen network keeps is dropped when a weight changes, in place, by loading or by casting."""
    network = tiny_generator().requires_grad_(False)
    z, y = normal(2, 9), normal(2, 4, seed=1)
    before = network(z, y)
    network.blocks[0][0].conv1.weight.mul_(-1)  # type: ignore[index]
    changed = network(z, y)
    assert not torch.allclose(changed, before)
    assert_near(copy.deepcopy(network)(z, y), changed, 1e-12)
    network.blocks[0][0].conv1.weight.mul_(-1)  # type: ignore[index]
    assert_near(network(z, y), before, 1e-12)
    assert_near(network.float()(z.float(), y.float()).double(), before, 1e-4)


def test_pictures_do_not_depend_on_their_batch() -> None:
    network = tiny_generator()
    z, y = normal(3, 9), normal(3, 4, seed=1)
    assert_near(network(z[1:2], y[1:2]), network(z, y)[1:2], 1e-12)


def test_generators_without_hierarchy_are_recognised() -> None:
    network = tiny_generator(hierarchical=False)
    twin = generator_from_shapes(network.state_dict())
    assert twin.chunk == 0 and twin.dim_z == 9
    twin.double().eval().load_state_dict(network.state_dict(), strict=True)
    z, y = normal(2, 9), normal(2, 4, seed=1)
    assert_near(twin(z, y), network(z, y), 1e-12)


def test_discriminator_is_rebuilt_from_its_shapes() -> None:
    network = tiny_discriminator()
    twin = discriminator_from_shapes(network.state_dict()).double().eval()
    twin.load_state_dict(network.state_dict(), strict=True)
    images, classes = normal(3, 3, 16, 16), torch.tensor([0, 4, 2])
    assert_near(twin(images, classes), network(images, classes), 1e-12)
    assert network.features(images).shape == (3, 16)


def test_logits_by_class_are_projections() -> None:
    """Class weights mix the classes' logits; without classes it is the log of their mean exponential."""
    network = tiny_discriminator()
    images = normal(3, 3, 16, 16)
    by_class = torch.cat([network(images, torch.full((3,), c)) for c in range(5)], dim=1)
    weights = normal(3, 5, seed=3).softmax(1)
    assert_near(network(images, weights), (by_class * weights).sum(1, keepdim=True), 1e-12)
    assert_near(network(images), by_class.exp().mean(1, keepdim=True).log(), 1e-12)


def test_training_mode_uses_and_stores_the_batch_statistics() -> None:
    network = tiny_generator().train()
    before = network.state_dict()["blocks.0.0.bn1.stored_mean"].clone()
    images = network(normal(6, 9), normal(6, 4, seed=1))
    images.square().sum().backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() for p in network.parameters() if p is not network.shared.weight
    )
    assert not torch.equal(network.state_dict()["blocks.0.0.bn1.stored_mean"], before)


def test_gradients_by_z_and_class() -> None:
    network = tiny_generator(channels=[(8, 8), (8, 8)]).requires_grad_(False)
    z, y = normal(1, 9).requires_grad_(), normal(1, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda z, y: network(z, y).mean(dim=(2, 3)), (z, y))


def test_wrong_input_is_explained() -> None:
    with pytest.raises(ValueError, match="lacks 'blocks.0.0.bn1.gain.weight'"):
        generator_from_shapes({})
    with pytest.raises(ValueError, match="lacks 'blocks.0.0.conv1.weight'"):
        discriminator_from_shapes({})
    with pytest.raises(ValueError, match="multiple of 3"):
        Generator(10, 5, 4, channels=[(8, 8), (8, 8)])
    with pytest.raises(ValueError, match=r"expected z of shape \[N, 9\]"):
        tiny_generator()(normal(2, 8), normal(2, 4))
    with pytest.raises(ValueError, match=r"expected images of shape \[N, 3, H, W\]"):
        tiny_discriminator()(normal(2, 1, 16, 16))

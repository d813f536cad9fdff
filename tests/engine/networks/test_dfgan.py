"""DF-GAN's generator: the golden tensors, the public shapes, and its own mathematics.

Tolerances as for StyleGAN2: 1e-10 in float64 and 1e-4 in float32, both relative to the largest entry.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.networks.dfgan import FusionBlock, Generator, GeneratorBlock, generator_from_shapes
from tests.engine.networks.checks import assert_cotangents_pull_back_together, normal
from tests.goldens import assert_near, golden, manifest_state, shapes

PRECISIONS = [
    pytest.param(torch.float64, "out64", 1e-10, id="float64"),
    pytest.param(torch.float32, "out", 1e-4, id="float32"),
]


def tiny_generator() -> Generator:
    torch.manual_seed(0)
    return Generator(3, 2, [4, 4, 2]).double().eval().requires_grad_(False)


@pytest.mark.parametrize(("dtype", "prefix", "tolerance"), PRECISIONS)
def test_generator_matches_golden(dtype: torch.dtype, prefix: str, tolerance: float) -> None:
    """The picture, and its gradients by the latent and by the sentence."""
    about = golden("dfgan_tiny")
    state = about.group("state.netG", dtype)
    network = generator_from_shapes(state).to(dtype)
    network.load_state_dict(state, strict=True)
    network.eval().requires_grad_(False)
    inputs, expected = about.group("in", dtype), about.group(prefix)
    z, sentences = inputs["z"].requires_grad_(), expected["sent_emb"].requires_grad_()
    images = network(z, sentences)
    gradients = torch.autograd.grad((images * inputs["grad_weight"]).sum(), [z, sentences])
    assert_near(images, expected["img"], tolerance)
    assert_near(gradients[0], expected["grad_z"], tolerance)
    assert_near(gradients[1], expected["grad_c"], tolerance)


def test_full_size_shapes_match_manifest() -> None:
    state = manifest_state("dfgan_netG_256")
    network = generator_from_shapes(state, device="meta")
    assert shapes(network.state_dict()) == shapes(state)
    assert all(value.is_meta for value in network.state_dict().values())
    assert (network.nz, network.cond_dim, network.img_size) == (100, 256, 256)


@pytest.mark.parametrize("out_channels", [3, 5])
def test_block_is_the_paper_s(out_channels: int) -> None:
    """Tao et al. 2022, Fig. 3: double first, then fuse, convolve, fuse, convolve; the input is added."""
    torch.manual_seed(0)
    block = GeneratorBlock(4, 3, out_channels).double().requires_grad_(False)
    x, condition = normal(2, 3, 4, 4), normal(2, 4, seed=1)

    def fuse(values: Tensor, part: FusionBlock) -> Tensor:
        for affine in (part.affine0, part.affine1):
            scale, shift = affine.fc_gamma(condition), affine.fc_beta(condition)
            values = F.leaky_relu(scale[:, :, None, None] * values + shift[:, :, None, None], 0.2)
        return values

    wide = F.interpolate(x, scale_factor=2)
    y = F.conv2d(fuse(wide, block.fuse1), block.c1.weight, block.c1.bias, padding=1)
    y = F.conv2d(fuse(y, block.fuse2), block.c2.weight, block.c2.bias, padding=1)
    shortcut = wide if out_channels == 3 else F.conv2d(wide, block.c_sc.weight, block.c_sc.bias)
    assert_near(block(x, condition), shortcut + y, 1e-13)


def test_generator_gradcheck() -> None:
    network = tiny_generator()
    inputs = (normal(2, 3).requires_grad_(), normal(2, 2, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(network, inputs, fast_mode=True)


def test_several_cotangents_at_once() -> None:
    network = tiny_generator()
    assert_cotangents_pull_back_together(lambda z: network(z, normal(2, 2)), normal(2, 3))


def test_samples_do_not_depend_on_the_batch() -> None:
    network = tiny_generator()
    z, sentences = normal(3, 3), normal(3, 2, seed=1)
    together = network(z, sentences)
    assert together.shape == (3, 3, 16, 16) and together.abs().max() <= 1
    for i in range(3):
        assert_near(network(z[i : i + 1], sentences[i : i + 1])[0], together[i], 1e-12)


def test_errors_say_what_to_do() -> None:
    network = tiny_generator()
    with pytest.raises(ValueError, match=r"expected z of shape \[N, 3\], got \[1, 4\]"):
        network(normal(1, 4), normal(1, 2))
    with pytest.raises(ValueError, match=r"expected sentences of shape \[1, 2\], got \[2, 2\]"):
        network(normal(1, 3), normal(2, 2))
    with pytest.raises(ValueError, match="this is no state dict of a DF-GAN generator"):
        generator_from_shapes({"weight": torch.zeros(1)})

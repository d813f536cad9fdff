"""DF-GAN's generator and critics: the golden tensors, the public shapes, and their own mathematics.

Tolerances as for StyleGAN2: 1e-10 in float64 and 1e-4 in float32, both relative to the largest entry.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.networks.dfgan import (
    ConditionalHead,
    Critic,
    Discriminator,
    DiscriminatorBlock,
    FusionBlock,
    Generator,
    GeneratorBlock,
    discriminator_from_shapes,
    generator_from_shapes,
    head_from_shapes,
)
from tests.engine.networks.checks import assert_cotangents_pull_back_together, normal
from tests.goldens import assert_near, golden, manifest_state, shapes

PRECISIONS = [
    pytest.param(torch.float64, "out64", 1e-10, id="float64"),
    pytest.param(torch.float32, "out", 1e-4, id="float32"),
]


def tiny_generator() -> Generator:
    torch.manual_seed(0)
    return Generator(3, 2, [4, 4, 2]).double().eval().requires_grad_(False)


def tiny_critic() -> Critic:
    """Of 16 px and sentences of 2 numbers; the gammas, 0 at first, let all of it through."""
    torch.manual_seed(0)
    critic = Critic(Discriminator([2, 4, 4]), ConditionalHead(4 + 2, 3)).double()
    for block in critic.discriminator.DBlocks:
        nn.init.constant_(block.get_parameter("gamma"), 0.5)
    return critic.eval().requires_grad_(False)


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


# ---- critics ---------------------------------------------------------------------------------------------


def test_critics_match_golden() -> None:
    """The features of the golden picture, and the logits of these and the golden sentence."""
    about = golden("dfgan_tiny")
    trunk, head = (about.group(f"state.{name}", torch.float32) for name in ("netD", "netC"))
    critic = Critic(discriminator_from_shapes(trunk), head_from_shapes(head))
    critic.discriminator.load_state_dict(trunk, strict=True)
    critic.head.load_state_dict(head, strict=True)
    critic.eval().requires_grad_(False)
    assert critic.discriminator.img_size == 32
    expected = about.group("out")
    features = critic(expected["img"])
    assert_near(features, expected["d_feat"], 1e-4)
    assert_near(critic.match(features, expected["sent_emb"]), expected["c_logit"].flatten(1), 1e-4)


@pytest.mark.parametrize("out_channels", [3, 5])
def test_a_critic_s_block_is_a_residual_beside_the_means(out_channels: int) -> None:
    torch.manual_seed(0)
    block = DiscriminatorBlock(3, out_channels).double().requires_grad_(False)
    x = normal(2, 3, 8, 8)
    shortcut = F.avg_pool2d(x if out_channels == 3 else F.conv2d(x, block.conv_s.weight, block.conv_s.bias), 2)
    assert_near(block(x), shortcut, 1e-13)  # gamma is 0 at first
    block.gamma.fill_(0.7)
    first, second = (block.get_parameter(f"conv_r.{place}.weight") for place in (0, 2))
    residual = F.leaky_relu(F.conv2d(x, first, stride=2, padding=1), 0.2)
    residual = F.leaky_relu(F.conv2d(residual, second, padding=1), 0.2)
    assert_near(block(x), shortcut + 0.7 * residual, 1e-13)


def test_critics_gradcheck() -> None:
    critic = tiny_critic()
    inputs = (normal(2, 3, 16, 16).requires_grad_(), normal(2, 2, seed=1).requires_grad_())
    judge = lambda images, sentences: critic.match(critic(images), sentences)  # noqa: E731
    assert torch.autograd.gradcheck(judge, inputs, fast_mode=True)


def test_logits_do_not_depend_on_the_batch() -> None:
    critic, images, sentences = tiny_critic(), normal(3, 3, 16, 16), normal(3, 2, seed=1)
    together = critic.match(critic(images), sentences)
    assert together.shape == (3, 1)
    for i in range(3):
        assert_near(critic.match(critic(images[i : i + 1]), sentences[i : i + 1])[0], together[i], 1e-12)


def test_critics_say_what_they_expect() -> None:
    critic = tiny_critic()
    with pytest.raises(ValueError, match=r"expected images of shape \[N, 3, 16, 16\], got \[1, 3, 8, 8\]"):
        critic(normal(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"sentences of shape \[N, 6 - C\], got \[1, 4, 4, 4\] and \[1, 3\]"):
        critic.match(normal(1, 4, 4, 4), normal(1, 3))
    for build, what in ((discriminator_from_shapes, "discriminator"), (head_from_shapes, "conditional discriminator")):
        with pytest.raises(ValueError, match=f"this is no state dict of a DF-GAN {what}"):
            build({"weight": torch.zeros(1)})

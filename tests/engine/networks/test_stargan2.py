"""StarGAN v2: the golden tensors, the public shapes, and its own mathematics.

Tolerances as for StyleGAN2: 1e-10 in float64 and 1e-4 in float32, both relative to the largest entry; for float32
gradients see `ACROSS_A_KINK`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.latents.spaces import style_spaces
from engine.networks import stargan2
from engine.networks.stargan2 import (
    AdaptiveBlock,
    Discriminator,
    Generator,
    MappingNetwork,
    ResidualBlock,
    StyleEncoder,
    instance_normalize,
)
from tests.engine.networks.checks import assert_cotangents_pull_back_together, normal
from tests.goldens import assert_near, golden, manifest_state, shapes

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "generator": stargan2.generator_from_shapes,
    "mapping_network": stargan2.mapping_network_from_shapes,
    "style_encoder": stargan2.style_encoder_from_shapes,
    "discriminator": stargan2.discriminator_from_shapes,
}
PRECISIONS = [
    pytest.param(torch.float64, "out64", 1e-10, id="float64"),
    pytest.param(torch.float32, "out", 1e-4, id="float32"),
]
# A gradient jumps where an input of a leaky ReLU changes its sign, and these networks have such inputs within some
# float32 roundings of zero: which side they fall on is the machine's. In float64, weights moved by 6e-7 (ten roundings)
# move grad_s of hpf1 by 8.6e-4 and grad_z by 1.1e-3, pictures by 1.5e-5 only. So float32 gradients get twice that jump;
# the float64 run, which no rounding carries across, has to meet all gradients, those of the float32 reference too.
ACROSS_A_KINK = 2.5e-3


def under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose key starts with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def load(state: dict[str, Tensor]) -> dict[str, Any]:
    """The four networks of a golden."""
    networks = {}
    for name, build in BUILDERS.items():
        part = under(state, f"{name}.")
        networks[name] = build(part).to(part[next(iter(part))].dtype)
        networks[name].load_state_dict(part, strict=True)
        networks[name].eval().requires_grad_(False)
    return networks


def drawn(network: nn.Module, seed: int = 0) -> Any:
    """The network in float64 with every parameter normal, and frozen."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.double().parameters():
        parameter.data.normal_(generator=generator).mul_(0.3)
    return network.eval().requires_grad_(False)


# ---- goldens ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hpf0", "hpf1"])
@pytest.mark.parametrize(("dtype", "prefix", "tolerance"), PRECISIONS)
def test_networks_match_golden(name: str, dtype: torch.dtype, prefix: str, tolerance: float) -> None:
    """Styles of both kinds, pictures, logits, and the gradients by z and by the style."""
    about = golden(f"starganv2_{name}_tiny")
    networks = load(about.group("state", dtype))
    inputs, expected = about.group("in", dtype), about.group(prefix)
    x, y, z = inputs["x"], inputs["y"], inputs["z"].requires_grad_()
    generator, discriminator = networks["generator"], networks["discriminator"]
    styles = networks["mapping_network"](z, y)
    images = generator(x, styles)
    weighted = (images * inputs["grad_weight"]).sum()
    gradient_z, gradient_styles = torch.autograd.grad(weighted, [z, styles])
    encoded = networks["style_encoder"](inputs["x_ref"], y)
    found = {
        "s_map": styles,
        "img": images,
        "scalar": weighted[None],
        "grad_z": gradient_z,
        "grad_s": gradient_styles,
        "s_enc": encoded,
        "img_ref": generator(x, encoded),
        "logit": discriminator(x, y),
        "logit_fake": discriminator(images, y),
    }
    if name == "hpf1":
        found["img_masked"] = generator(x, styles, (inputs["mask0"], inputs["mask1"]))
    assert len(expected) >= 5 and expected.keys() <= found.keys()
    for key, value in expected.items():
        may_jump = key.startswith("grad_") and dtype == torch.float32
        assert_near(found[key], value, ACROSS_A_KINK if may_jump else tolerance)
    for key in ("grad_z", "grad_s"):
        if dtype == torch.float64:
            assert_near(found[key], about.group("out", dtype)[key], 1e-4)


@pytest.mark.parametrize("name", ["starganv2_afhq", "starganv2_celeba_hq"])
def test_full_size_shapes_match_manifest(name: str) -> None:
    """Keys and shapes of the public checkpoints, without allocating a weight."""
    state = manifest_state(name)
    parts = {key.partition("/")[0] for key in state}
    assert parts == {"generator", "mapping_network", "style_encoder"}
    for part in parts:
        expected = under(state, f"{part}/")
        network = BUILDERS[part](expected, device="meta")
        assert shapes(network.state_dict()) == shapes(expected)
        assert all(value.is_meta for value in network.state_dict().values())
        if part != "mapping_network":
            assert network.img_size == 256


# ---- mathematics -----------------------------------------------------------------------------------------


def test_instance_normalization() -> None:
    """Torch's own in values, its derivative by finite differences; float32 is exact enough far from zero, too."""
    x = normal(2, 3, 4, 5).requires_grad_()
    assert_near(instance_normalize(x), F.instance_norm(x), 1e-13)
    assert torch.autograd.gradcheck(instance_normalize, x)
    far = (normal(2, 3, 64, 64) + 5.0).float().contiguous(memory_format=torch.channels_last)
    assert_near(instance_normalize(far).double(), F.instance_norm(far.double()), 2e-6)  # 16 roundings of 6e-8
    assert instance_normalize(far).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("down", [False, True])
def test_residual_block_is_the_paper_s(normalize: bool, down: bool) -> None:
    """Choi et al. 2020, appendix: pool after the first convolution and after the shortcut; the sum over sqrt(2)."""
    block = drawn(ResidualBlock(3, 5, normalize=normalize, down=down))
    x = normal(2, 3, 8, 8)

    def norm(values: Tensor, layer: str) -> Tensor:
        if not normalize:
            return values
        part = block.get_submodule(layer)
        return F.instance_norm(values, weight=part.weight, bias=part.bias)

    def pool(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, 2) if down else values

    y = pool(F.conv2d(F.leaky_relu(norm(x, "norm1"), 0.2), block.conv1.weight, block.conv1.bias, padding=1))
    y = F.leaky_relu(norm(y, "norm2"), 0.2)
    y = F.conv2d(y, block.conv2.weight, block.conv2.bias, padding=1)
    assert_near(block(x), (pool(F.conv2d(x, block.conv1x1.weight)) + y) / 2**0.5, 1e-13)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("shortcut", [False, True])
def test_adaptive_block_is_the_paper_s(up: bool, shortcut: bool) -> None:
    """Double before the first convolution and before the shortcut; without shortcut, no division either."""
    block = drawn(AdaptiveBlock(3, 5, 4, up=up, shortcut=shortcut))
    x, styles = normal(2, 3, 8, 8), normal(2, 4, seed=1)

    def norm(values: Tensor, layer: Any) -> Tensor:
        scale, shift = layer.fc(styles).chunk(2, dim=1)
        return (1 + scale)[:, :, None, None] * F.instance_norm(values) + shift[:, :, None, None]

    def wide(values: Tensor) -> Tensor:
        return F.interpolate(values, scale_factor=2) if up else values

    y = F.conv2d(wide(F.leaky_relu(norm(x, block.norm1), 0.2)), block.conv1.weight, block.conv1.bias, padding=1)
    y = F.conv2d(F.leaky_relu(norm(y, block.norm2), 0.2), block.conv2.weight, block.conv2.bias, padding=1)
    expected = (F.conv2d(wide(x), block.conv1x1.weight) + y) / 2**0.5 if shortcut else y
    assert_near(block(x, styles), expected, 1e-13)


@pytest.mark.parametrize("high_pass", [False, True])
def test_generator_gradcheck(high_pass: bool) -> None:
    """By picture and style; with heatmaps where the variant takes them."""
    generator = drawn(Generator([2, 3, 3] if high_pass else [2, 3], 3, high_pass=high_pass))
    size = generator.img_size
    assert size == 32
    styles = normal(1, 3).requires_grad_()
    masks = (normal(1, 1, 8, 8).sigmoid(), normal(1, 1, 8, 8).sigmoid()) if high_pass else None
    picture = normal(1, 3, size, size, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: generator(picture, s, masks), styles, fast_mode=True)
    assert torch.autograd.gradcheck(lambda x: generator(x, styles, masks), picture, fast_mode=True)


def test_encoder_and_discriminator_gradcheck() -> None:
    domains = torch.tensor([1, 0])
    images = normal(2, 3, 8, 8).requires_grad_()
    for network in (drawn(StyleEncoder([2, 3], 4, 2)), drawn(Discriminator([2, 3], 2))):
        assert torch.autograd.gradcheck(lambda x, network=network: network(x, domains), images, fast_mode=True)


def test_heads_belong_to_their_domains() -> None:
    """A style is that of its own domain's head, whatever the others in the batch ask for."""
    mapping = drawn(MappingNetwork(3, 4, 3, hidden=5))
    z = normal(3, 3)
    together = mapping(z, torch.tensor([2, 0, 1]))
    for row, domain in enumerate([2, 0, 1]):
        assert_near(together[row], mapping.to_domain(z, domain)[row], 1e-14)
    assert not torch.allclose(mapping.to_domain(z, 0), mapping.to_domain(z, 1))
    judge = drawn(Discriminator([2, 3], 3))
    images = normal(2, 3, 8, 8)
    logits = judge.main(images).flatten(1)
    assert_near(judge(images, torch.tensor([2, 1])), torch.stack([logits[0, 2], logits[1, 1]]), 1e-14)
    assert judge.features(images).shape == (2, 3)


def test_samples_do_not_depend_on_the_batch() -> None:
    generator = drawn(Generator([2, 3], 3))
    images, styles = normal(3, 3, 32, 32), normal(3, 3, seed=1)
    together = generator(images, styles)
    for i in range(3):
        assert_near(generator(images[i : i + 1], styles[i : i + 1])[0], together[i], 1e-12)


@pytest.mark.parametrize("high_pass", [False, True])
def test_several_cotangents_at_once(high_pass: bool) -> None:
    generator = drawn(Generator([2, 3], 3, high_pass=high_pass))
    images = normal(2, 3, generator.img_size, generator.img_size)
    assert_cotangents_pull_back_together(lambda styles: generator(images, styles), normal(2, 3, seed=1))


def test_truncation_pulls_to_the_mean_style() -> None:
    """mean + psi (s - mean), the mean over 10,000 z of that domain alone."""
    mapping = drawn(MappingNetwork(3, 4, 2, hidden=5), seed=3).float()
    spaces = style_spaces(mapping.to_domain, 3, 2)
    assert [space.name for space in spaces] == ["style 0", "style 1"]
    for domain, space in enumerate(spaces):
        z = normal(10_000, 3, seed=domain + 1).float()
        assert_near(space.statistics.mean, mapping.to_domain(z, domain).mean(0), 0.05)  # of other z: about 1 % off
        latents = space.sample([1, 2])
        style, truncated = space.decode(latents), space.truncated(0.5).decode(0.5 * latents)
        assert_near(truncated, torch.lerp(space.statistics.mean, style, 0.5), 1e-5)


def test_errors_say_what_to_do() -> None:
    generator, mapping = Generator([2, 3], 3), MappingNetwork(3, 4, 2, hidden=5)
    images, styles = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3)
    with pytest.raises(ValueError, match=r"expected images of shape \[N, 3, 32, 32\], got \[1, 3, 16, 16\]"):
        generator(torch.zeros(1, 3, 16, 16), styles)
    with pytest.raises(ValueError, match=r"expected styles of shape \[1, 3\], got \[2, 3\]"):
        generator(images, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="leave them out"):
        generator(images, styles, (torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)))
    with pytest.raises(ValueError, match=r"expected z of shape \[N, 3\], got \[1, 2\]"):
        mapping(torch.zeros(1, 2), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"domains must be in 0..1, got \[2\]"):
        mapping(torch.zeros(1, 3), torch.tensor([2]))
    with pytest.raises(ValueError, match=r"expected domains: \[1\] whole numbers"):
        mapping(torch.zeros(1, 3), torch.tensor([0.0]))
    for build in BUILDERS.values():
        with pytest.raises(ValueError, match="StarGAN v2"):
            build({"weight": torch.zeros(1)})

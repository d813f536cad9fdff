"""Co-Mod-GAN: the golden tensors, the public shapes, and its own mathematics.

The golden was recorded in float32 alone, so it is met to 1e-4 in both precisions; that float64 is right to 1e-10
follows from `plain_fill`, the published formulas written out with a weight per sample.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.networks.comodgan import Arithmetic, Encoded, Generator, generator_from_shapes, paste
from tests.engine.networks.checks import assert_cotangents_pull_back_together, normal
from tests.goldens import Golden, assert_near, golden, manifest_state, shapes

ARITHMETICS: tuple[Arithmetic, ...] = ("original", "port")


def load(about: Golden, dtype: torch.dtype, arithmetic: Arithmetic) -> Generator:
    network = generator_from_shapes(about.group("state"), arithmetic=arithmetic).to(dtype)
    network.load_state_dict(about.group("state", dtype), strict=True)
    return network.eval().requires_grad_(False)


def tiny_generator(arithmetic: Arithmetic = "original") -> Generator:
    """8 px, every parameter normal: strengths of the noise and biases, too."""
    network = Generator([3, 4, 4], {4: 4, 8: 2}, code_dim=3, arithmetic=arithmetic).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data.normal_(generator=generator)
    return network.eval().requires_grad_(False)


def hole(size: int, batch: int = 1) -> Tensor:
    """known: 0 in a square, 1 around it."""
    known = torch.ones(batch, 1, size, size, dtype=torch.float64)
    known[:, :, size // 4 : size // 2, size // 4 :] = 0
    return known


# ---- goldens ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_port_matches_golden(dtype: torch.dtype) -> None:
    """The port's pictures with recorded noise, without noise and truncated, and the gradient by z."""
    about = golden("comodgan_tiny")
    network = load(about, dtype, "port")
    inputs, expected = about.group("in", dtype), about.group("out", dtype)
    images, known, z = inputs["image"], 1 - inputs["hole_mask"], inputs["z"].requires_grad_()
    noise = [inputs[f"noise{i}"] for i in range(len(about.about["noise_order"]))]
    encoded = network.encode(images, known)
    filled = network.fill(encoded, network.map(z), noise)
    pasted = paste(images, known, filled)
    (gradient,) = torch.autograd.grad((pasted * inputs["grad_weight"]).sum(), z)
    truncated = network.map(z, w_avg=inputs["w_avg"], truncation_psi=0.5)
    for key, found in {
        "w": network.G_mapping(z),
        "x_global": encoded.code,
        "img_raw": filled,
        "img": network(images, known, z, noise),
        "grad_z": gradient,
        "img_psi0.5": paste(images, known, network.fill(encoded, truncated, noise)),
        "img_no_noise": network(images, known, z),
    }.items():
        assert_near(found, expected[key], 1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_original_matches_golden(dtype: torch.dtype) -> None:
    """With the encoder's 4x4 features; the port's arithmetic is far from it."""
    about = golden("comodgan_tiny")
    inputs = about.group("in", dtype)
    expected = about.group("out", dtype)["img_tf_4x4_skip_no_noise"]
    images, known, z = inputs["image"], 1 - inputs["hole_mask"], inputs["z"]
    assert_near(load(about, dtype, "original")(images, known, z), expected, 1e-4)
    assert (load(about, dtype, "port")(images, known, z) - expected).abs().max() > 0.1


def test_full_size_shapes_match_manifest() -> None:
    state = manifest_state("comodgan_512")
    network = generator_from_shapes(state, device="meta")
    assert shapes(network.state_dict()) == shapes(state)
    assert all(value.is_meta for value in network.state_dict().values())
    assert (network.img_size, network.num_ws, network.code_dim) == (512, 16, 1024)


# ---- mathematics -----------------------------------------------------------------------------------------


def dense(layer: Any, x: Tensor, *, activate: bool = True) -> Tensor:
    y = x @ layer.weight.t() / math.sqrt(x.shape[1]) + layer.bias
    return F.leaky_relu(y, 0.2) * math.sqrt(2) if activate else y


def convolved(layer: Any, x: Tensor, modulation: Tensor, *, demodulate: bool = True) -> Tensor:
    """A weight per sample (Karras et al. 2020, Eqs. 1 and 3); up by explicit zeros and the blur."""
    weight = layer.weight[0] / math.sqrt(layer.weight[0, 0].numel())
    rows = []
    for row, styles in zip(x, dense(layer.modulation, modulation, activate=False), strict=True):
        own = weight * styles[:, None, None]
        if demodulate:
            own = own / (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if hasattr(layer, "blur"):
            y = F.conv_transpose2d(row[None], own.transpose(0, 1), stride=2)
            kernel = layer.blur.kernel.expand(y.shape[1], 1, 4, 4)
            rows.append(F.conv2d(y, kernel, padding=1, groups=y.shape[1]))
        else:
            rows.append(F.conv2d(row[None], own, padding=own.shape[-1] // 2))
    return torch.cat(rows)


def layered(layer: Any, x: Tensor, modulation: Tensor, noise: Tensor) -> Tensor:
    y = convolved(layer.conv, x, modulation) + layer.noise.weight * noise
    return F.leaky_relu(y + layer.activate.bias[:, None, None], 0.2) * math.sqrt(2)


def plain_fill(network: Generator, encoded: Encoded, w: Tensor, noise: list[Tensor]) -> Tensor:
    """8 px by the formulas of the published code."""
    parts: Any = network.G_synthesis
    first, block = parts.G_4x4, parts.G_8x8
    modulation = torch.cat([w, encoded.code], dim=1)
    x = dense(first.Dense, encoded.code).reshape(len(w), -1, 4, 4)
    x = x + encoded.features[4] if network.G_synthesis.arithmetic == "original" else x
    x = layered(first.Conv, x, modulation, noise[0])
    small = convolved(first.ToRGB.conv, x, modulation, demodulate=False) + first.ToRGB.bias
    x = layered(block.Conv0_up, x, modulation, noise[1]) + encoded.features[8]
    x = layered(block.Conv1, x, modulation, noise[2])
    kernel = block.ToRGB.upsample.kernel.expand(3, 1, 4, 4)
    wide = F.conv_transpose2d(small, kernel, stride=2, padding=1, groups=3)
    return wide + convolved(block.ToRGB.conv, x, modulation, demodulate=False) + block.ToRGB.bias


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_fill_is_the_published_formulas(arithmetic: Arithmetic) -> None:
    """In float64, values and the gradient by w."""
    network = tiny_generator(arithmetic)
    encoded = network.encode(normal(2, 3, 8, 8), hole(8, 2))
    noise = [draw.double() for draw in network.draw_noise(2, torch.Generator().manual_seed(1))]
    w = normal(2, 4, seed=1).requires_grad_()
    ours = network.fill(encoded, w[:, None].expand(-1, network.num_ws, -1), noise)
    plain = plain_fill(network, encoded, w, noise)
    assert_near(ours, plain, 1e-10)
    upstream = normal(2, 3, 8, 8, seed=2)
    (found,), (expected,) = (torch.autograd.grad(images, w, upstream) for images in (ours, plain))
    assert_near(found, expected, 1e-10)


def test_encoder_is_the_published_formulas() -> None:
    """It sees known - 0.5 and the known pixels alone."""
    network = tiny_generator()
    images, known = normal(1, 3, 8, 8), hole(8)
    encoder: Any = network.G_synthesis.E

    def convolve(layer: nn.Module, x: Tensor, **options: int) -> Tensor:
        *_, weight, bias = (next(iter(part.state_dict().values())) for part in layer.children())
        y = F.conv2d(x, weight / math.sqrt(weight[0].numel()), bias, **options)
        return F.leaky_relu(y, 0.2) * math.sqrt(2)

    x = torch.cat([known - 0.5, images * known], dim=1)
    x = convolve(encoder.get_submodule("8x8_0.FromRGB"), x)
    eight = convolve(encoder.get_submodule("8x8.Conv0"), x, padding=1)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
    kernel = torch.outer(taps, taps).expand(eight.shape[1], 1, 4, 4)
    blurred = F.conv2d(eight, kernel, padding=2, groups=eight.shape[1])
    down = convolve(encoder.get_submodule("8x8.Conv1_down"), blurred, stride=2)
    four = convolve(encoder.get_submodule("4x4.Conv"), down, padding=1)
    encoded = network.encode(images, known)
    assert_near(encoded.features[8], eight, 1e-12)
    assert_near(encoded.features[4], four, 1e-12)
    assert_near(encoded.code, dense(encoder.get_submodule("4x4.Dense0"), four.flatten(1)), 1e-12)
    changed = images + 5 * (1 - known)
    assert torch.equal(network.encode(changed, known).code, encoded.code)


def test_one_encoding_serves_many_fillings() -> None:
    """The hole is encoded once for all particles, and a particle does not depend on the others."""
    network = tiny_generator()
    images, known, z = normal(1, 3, 8, 8), hole(8), normal(3, 3, seed=1)
    shared = network.fill(network.encode(images, known), network.map(z))
    each = network.fill(network.encode(images.expand(3, -1, -1, -1), known.expand(3, -1, -1, -1)), network.map(z))
    assert_near(shared, each, 1e-12)
    for i in range(3):
        assert_near(network.fill(network.encode(images, known), network.map(z[i : i + 1]))[0], shared[i], 1e-12)


def test_known_pixels_stay() -> None:
    """Bit for bit, and none of the hole's."""
    network = tiny_generator()
    images, known = normal(2, 3, 8, 8), hole(8, 2)
    filled = network(images, known, normal(2, 3, seed=1))
    kept = known.bool().expand_as(images)
    assert torch.equal(filled[kept], images[kept])
    assert not (filled[~kept] == images[~kept]).any()


def test_gradcheck_to_latent_and_picture() -> None:
    network = tiny_generator()
    known = hole(8)
    inputs = (normal(1, 3, 8, 8).requires_grad_(), normal(1, 3, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(lambda images, z: network(images, known, z), inputs, fast_mode=True)


def test_several_cotangents_at_once() -> None:
    network = tiny_generator()
    encoded = network.encode(normal(1, 3, 8, 8), hole(8))
    assert_cotangents_pull_back_together(lambda z: network.fill(encoded, network.map(z)), normal(2, 3, seed=1))


def test_noise_and_dropout_come_from_the_generator() -> None:
    network = tiny_generator()
    seeded = [network.draw_noise(2, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert [tuple(draw.shape) for draw in seeded[0]] == [(2, 1, 4, 4), (2, 1, 8, 8), (2, 1, 8, 8)]
    assert all(torch.equal(a, b) for a, b in zip(seeded[0], seeded[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(seeded[0], seeded[2], strict=True))
    dropout = network.draw_dropout(1000, torch.Generator().manual_seed(1))
    assert set(dropout.unique().tolist()) == {0.0, 2.0}
    assert abs(float(dropout.mean()) - 1) < 0.08  # 3000 fair coins: 4.4 standard deviations
    images, known = normal(1, 3, 8, 8), hole(8)
    plain, dropped = network.encode(images, known), network.encode(images, known, dropout=dropout[:1].double())
    assert torch.equal(dropped.code, plain.code * dropout[:1])
    assert torch.equal(dropped.features[4], plain.features[4])


def test_errors_say_what_to_do() -> None:
    network = tiny_generator()
    images, known, z = normal(1, 3, 8, 8), hole(8), normal(1, 3)
    with pytest.raises(ValueError, match=r"expected images of shape \[N, 3, 8, 8\], got \[1, 3, 4, 4\]"):
        network(normal(1, 3, 4, 4), known, z)
    with pytest.raises(ValueError, match=r"expected known of shape \[1, 1, 8, 8\], got \[1, 3, 8, 8\]"):
        network(images, images, z)
    with pytest.raises(ValueError, match=r"expected z of shape \[N, 3\], got \[1, 2\]"):
        network(images, known, normal(1, 2))
    with pytest.raises(ValueError, match="expected noise for 3 layers, got 1; see draw_noise"):
        network(images, known, z, [normal(1, 1, 4, 4)])
    with pytest.raises(ValueError, match=r"expected ws of shape \[N, 4, 4\]"):
        network.fill(network.encode(images, known), normal(1, 4))
    with pytest.raises(ValueError, match="truncation needs w_avg"):
        network.map(z, truncation_psi=0.5)
    with pytest.raises(ValueError, match="choose one of original, port"):
        generator_from_shapes(network.state_dict(), arithmetic="tensorflow")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="channels must list the sizes"):
        Generator([3, 4], {4: 2, 16: 2}, code_dim=3)
    with pytest.raises(ValueError, match="Co-Mod-GAN"):
        generator_from_shapes({"weight": torch.zeros(1)})

"""Tiny files of the public formats, opened, and what the reference networks made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.checkpoints import Checkpoint
from engine.checkpoints.building import build
from tests.goldens import reference

TOLERANCE = 1e-4  # float32: sums in another order differ by about 1e-7 of the largest entry, a few layers deep


def tensors(name: str) -> dict[str, Tensor]:
    """`in.*`, `out.*` and, in some, `state.*` of `<name>_expected.safetensors`."""
    return load_file(path(f"{name}_expected.safetensors"))


def assert_near(found: Tensor, expected: Tensor) -> None:
    """max |found - expected| <= 1e-4 max |expected|."""
    assert found.shape == expected.shape
    error = (found - expected).abs().max() / expected.abs().max()
    assert error <= TOLERANCE, f"relative error {error:.2e}"


def network(checkpoint: Checkpoint, role: str) -> Any:
    return build(checkpoint, role)


def check_biggan_deep(checkpoint: Checkpoint) -> None:
    """Images at six truncations, and the gradients for z and the class at one."""
    expected, model = tensors("biggan-deep-tiny"), network(checkpoint, "generator")
    z, classes = expected["in.z"], expected["in.class"]
    for truncation in (1.0, 0.5, 0.43, 0.4, 0.3, 0.07):
        assert_near(model(z, classes, truncation), expected[f"out.img_t{truncation}"])
    assert_near(model.embed_classes(classes), expected["out.embed"])
    z, classes = z.requires_grad_(), classes.requires_grad_()
    scalar = (model(z, classes, 0.4) * expected["in.grad_weight"]).sum()
    grad_z, grad_class = torch.autograd.grad(scalar, (z, classes))
    assert_near(grad_z, expected["out.grad_z"])
    assert_near(grad_class, expected["out.grad_class"])


def check_dalle_encoder(checkpoint: Checkpoint) -> None:
    from engine.networks.dalle_dvae import map_pixels

    expected = tensors("dalle")
    assert_near(network(checkpoint, "encoder")(map_pixels(expected["in.image01"])), expected["out.z_logits"])


def check_dalle_decoder(checkpoint: Checkpoint) -> None:
    expected, model = tensors("dalle"), network(checkpoint, "decoder")
    statistics = model(expected["in.soft"])
    assert_near(statistics, expected["out.x_stats"])
    assert_near(((model.images(statistics) + 1) / 2).clamp(0, 1), expected["out.img"])


def check_rosinality(checkpoint: Checkpoint) -> None:
    expected, model = tensors("rosinality_32"), network(checkpoint, "generator")
    assert_near(model(expected["in.z"]), expected["out.img"])
    ws = model.mapping(expected["in.z"], truncation_psi=0.5)
    assert_near(model.synthesis(ws), expected["out.img_psi0_5"])


def check_stylegan2(checkpoint: Checkpoint, name: str) -> None:
    """Images, truncation, the gradients for z and ws, and the discriminator's logits."""
    expected, model = tensors(name), network(checkpoint, "generator")
    z, c = expected["in.z"], expected.get("in.c")
    with torch.no_grad():
        ws = model.mapping(z, c)
        images = model.synthesis(ws)
    assert_near(ws, expected["out.ws"])
    assert_near(images, expected["out.img"])
    with torch.no_grad():
        assert_near(model.synthesis(expected["in.wplus"]), expected["out.img_wplus"])
        assert_near(model.synthesis(ws, noise_mode="none"), expected["out.img_noise_none"])
        truncated = model.mapping(z, c, truncation_psi=0.5, truncation_cutoff=3)
        assert_near(truncated, expected["out.ws_psi0.5_cut3"])
        assert_near(model.synthesis(truncated), expected["out.img_psi0.5_cut3"])
        logits = network(checkpoint, "discriminator")(images, c)
        assert_near(logits, expected["out.D_logits"])
    check_stylegan2_gradients(model.double(), expected)


def check_stylegan2_gradients(model: Any, expected: dict[str, Tensor]) -> None:
    """In float64: in float32 an activation within rounding of zero may fall on the other slope than the reference's."""
    c = expected.get("in.c")
    z = expected["in.z"].double().requires_grad_()
    ws = model.mapping(z, None if c is None else c.double())
    scalar = (model.synthesis(ws) * expected["in.grad_weight"]).sum()
    grad_z, grad_ws = torch.autograd.grad(scalar, (z, ws))
    assert_near(scalar[None].detach(), expected["out.scalar"])
    assert_near(grad_z, expected["out.grad_z"])
    assert_near(grad_ws, expected["out.grad_ws"])


def check_stargan(checkpoint: Checkpoint) -> None:
    expected = tensors("stargan")
    x, y = expected["in.x"], expected["in.y"]
    styles = network(checkpoint, "mapping_network")(expected["in.z"], y)
    assert_near(styles, expected["out.s"])
    assert_near(network(checkpoint, "generator")(x, styles), expected["out.img"])
    assert_near(network(checkpoint, "style_encoder")(x, y), expected["out.s_enc"])


def check_vqgan(checkpoint: Checkpoint) -> None:
    expected, model = tensors("vqgan_tiny"), network(checkpoint, "autoencoder")
    encoded = model.encode(expected["in.x"])
    assert torch.equal(model.quantize.indices(encoded).flatten(), expected["out.indices"])
    assert_near(model.quantized(encoded), expected["out.quantized"])
    assert_near(model.decode(model.quantized(encoded)), expected["out.rec"])
    assert_near(model.decode(expected["in.quant"]), expected["out.img"])


Check = Callable[[Checkpoint], None]
CHECKS: dict[str, tuple[str, tuple[Check, ...]]] = {
    "biggan-deep-tiny": ("biggan_deep", (check_biggan_deep,)),
    "biggan-deep-tiny/pytorch_model.bin": ("biggan_deep", (check_biggan_deep,)),
    "biggan-deep-tiny-zip.bin": ("biggan_deep", (check_biggan_deep,)),
    "dalle_encoder.pkl": ("dalle_dvae", (check_dalle_encoder,)),
    "dalle_decoder.pkl": ("dalle_dvae", (check_dalle_decoder,)),
    "rosinality_32.pt": ("stylegan2", (check_rosinality,)),
    "sg2_tf_legacy32.pkl": ("stylegan2", (lambda opened: check_stylegan2(opened, "sg2_tf_legacy32"),)),
    "stargan_100000_nets_ema.ckpt": ("stargan2", (check_stargan,)),
    "vqgan_tiny.ckpt": ("vqgan", (check_vqgan,)),
    "vqgan_tiny_plcallbacks.ckpt": ("vqgan", (check_vqgan,)),
}


def path(name: str) -> Path:
    """A file or folder of the public formats."""
    return reference(f"checkpoints/{name}")

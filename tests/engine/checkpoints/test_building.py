"""Networks from state dicts: of their own weights, frozen, in float32; what does not fit is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.checkpoints import open_checkpoint
from engine.checkpoints.building import build, build_network, can_build
from engine.errors import ModelError
from engine.networks import stylegan2
from tests.engine.checkpoints import expected


def state(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A tiny StyleGAN2 generator's."""
    network = stylegan2.Generator(4, 0, 4, 8, channels={4: 4, 8: 4}, mapping_layers=2)
    return {key: tensor.detach().to(dtype) for key, tensor in network.state_dict().items()}


SETTINGS = {"lr_multiplier": 0.01, "conv_clamp": None}


def test_which_networks_there_are() -> None:
    for family, role in (("stylegan2", "generator"), ("stargan2", "style_encoder"), ("vqgan", "autoencoder")):
        assert can_build(family, role) is True
    for family, role in (("dfgan", "text_encoder"), ("stylegan2", "nothing")):
        assert can_build(family, role) is False
        with pytest.raises(ModelError, match=f"here: there is no network for the {role} of a {family} yet"):
            build_network(family, role, {}, {}, place="here")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_networks_are_frozen_in_float32(dtype: torch.dtype) -> None:
    weights = state(dtype)
    network = build_network("stylegan2", "generator", weights, SETTINGS, place="here")
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
    for key, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, weights[key].float())


def test_weights_are_shared_or_copied() -> None:
    weights = state()
    for copied in (False, True):
        network = build_network("stylegan2", "generator", weights, SETTINGS, place="here", copied=copied)
        key = "synthesis.b4.conv1.weight"
        assert (network.state_dict()[key].data_ptr() == weights[key].data_ptr()) != copied
        assert torch.equal(network.state_dict()[key], weights[key])


def test_settings_reach_the_network() -> None:
    """The step of the mapping network's layers is part of what its weights mean."""
    z, weights = torch.ones(1, 4), state()
    networks: list[Any] = [
        build_network("stylegan2", "generator", weights, {**SETTINGS, "lr_multiplier": step}, place="here")
        for step in (0.01, 1.0)
    ]
    assert not torch.allclose(networks[0].mapping(z), networks[1].mapping(z))


def test_weights_that_do_not_fit_are_said(tmp_path: Path) -> None:
    weights = state()
    with pytest.raises(ModelError, match="here does not hold a stylegan2 generator: ") as caught:
        build_network("stylegan2", "generator", {"a": torch.ones(1)}, SETTINGS, place="here")
    assert "\n" not in str(caught.value)
    del weights["synthesis.b8.conv1.bias"]
    torch.save(weights, tmp_path / "lacking.pt")
    opened = open_checkpoint(tmp_path / "lacking.pt")
    with pytest.raises(ModelError, match=r"lacking\.pt does not hold a stylegan2 generator: .*b8\.conv1\.bias"):
        build(opened, "generator")
    many = {**weights, **{f"strange.{i}": torch.ones(1) for i in range(99)}}
    with pytest.raises(ModelError) as caught:
        build_network("stylegan2", "generator", many, SETTINGS, place="here")
    assert len(str(caught.value)) < 400
    with pytest.raises(ModelError, match=r"lacking\.pt holds no discriminator; it holds generator\."):
        build(opened, "discriminator")


def test_a_checkpoints_settings_are_used() -> None:
    path = expected.path("sg2_tf_legacy32.pkl")
    networks: list[Any] = [
        build(open_checkpoint(path, given={"lr_multiplier": step}), "generator") for step in (0.01, 1.0)
    ]
    z = expected.tensors("sg2_tf_legacy32")["in.z"]
    assert not torch.allclose(networks[0].mapping(z), networks[1].mapping(z))

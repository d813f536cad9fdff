"""StarGAN v2's face alignment network: the golden tensors, the public shapes, what the masks do in the generator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.networks.fan import COARSE_ONLY, FAINT, LANDMARKS, SIDE, UNUSED, fan_from_shapes, masks_of
from engine.networks.stargan2 import MappingNetwork, StyleEncoder, Translator, generator_from_shapes
from tests.goldens import Golden, assert_near, golden, manifest_state, shapes


def loaded(about: Golden, dtype: torch.dtype) -> Translator:
    """The golden's generator and `fan`, and as untrained ones the two that the golden has none of."""
    generator = generator_from_shapes(about.group("state.generator"))
    generator.load_state_dict(about.group("state.generator"))
    fan = fan_from_shapes(about.group("state.fan"))
    fan.load_state_dict(about.group("state.fan"))
    mapping = MappingNetwork(3, generator.style_dim, 2, hidden=4)
    encoder = StyleEncoder([2, 2, 2, 2, 2, 2], generator.style_dim, 2)
    return Translator(generator, mapping, encoder, fan=fan).to(dtype).eval().requires_grad_(False)


# In float64 the reference's roundings, in float32 those of sums in another order; for gradients see test_stargan2.
@pytest.mark.parametrize(
    ("dtype", "prefix", "tolerance", "of_gradients"),
    [
        pytest.param(torch.float64, "out64", 1e-10, 1e-10, id="float64"),
        pytest.param(torch.float32, "out", 1e-5, 2.5e-3, id="float32"),
    ],
)
def test_heat_maps_masks_and_pictures_match_golden(
    dtype: torch.dtype, prefix: str, tolerance: float, of_gradients: float
) -> None:
    """The reference's heat maps and both masks, the pictures with them and without, and the gradient by the style."""
    about = golden("starganv2_fan_tiny")
    translator, expected = loaded(about, dtype), about.group(prefix)
    inputs = about.group("in")
    fan = translator.fan
    assert fan is not None
    images = (inputs["x8"].float() / 127.5 - 1).to(dtype)
    styles = inputs["styles"].to(dtype).requires_grad_()
    heat, masks = fan.heat_maps(images), fan(images)
    content, detail = translator.encoded(images)
    assert set(detail) == {32, 64, 128}
    drawn = translator.generator.draw(content, styles, detail)
    assert torch.equal(drawn, translator.generator(images, styles, masks))
    weighted = (drawn[..., ::4, ::4] * inputs["grad_weight"].to(dtype)).sum()
    found = {
        "heat": heat[:, ::7, ::4, ::4],
        "heat_mean": heat.mean((2, 3)),
        "mask0": masks[0][..., ::6, ::6],
        "mask1": masks[1][..., ::6, ::6],
        "mask_means": torch.stack([mask.mean((1, 2, 3)) for mask in masks]),
        "img": drawn[..., ::4, ::4],
        "img_plain": translator.generator.draw(content, styles)[..., ::4, ::4],
        "grad_s": torch.autograd.grad(weighted, styles)[0],
    }
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert_near(found[key], value, of_gradients if key == "grad_s" else tolerance)


def test_full_size_shapes_match_manifest() -> None:
    """Keys and shapes of the network that CelebA-HQ's file holds, without allocating a weight."""
    state = manifest_state("starganv2_fan")
    assert shapes(fan_from_shapes(state, device="meta").state_dict()) == shapes(state)
    with pytest.raises(ValueError, match="face alignment network"):
        fan_from_shapes({"weight": torch.zeros(1)})


def one_spot(landmark: int, *, row: int = 128, heat: float = 0.8) -> Tensor:
    maps = torch.zeros(1, LANDMARKS, SIDE, SIDE, dtype=torch.float64)
    maps[0, landmark, row, 100] = heat
    return maps


@pytest.mark.parametrize(
    ("landmark", "rows"),
    [(10, [128]), (40, [135]), (51, [128]), (53, [124]), (57, [120]), (79, [136]), (85, [120]), (90, [130])],
)
def test_the_heat_of_every_part_is_moved(landmark: int, rows: list[int]) -> None:
    """Chin, eyebrows, the root of the nose, its tip, nostrils, the lips; chin, eyebrows and mouth are coarse alone."""
    coarse, fine = masks_of(one_spot(landmark))
    assert coarse[0, 0, :, 100].nonzero().flatten().tolist() == rows
    assert bool(fine.any()) == (landmark not in COARSE_ONLY)


def test_eyes_are_handed_on_twice_and_faint_heat_not_at_all() -> None:
    for mask in masks_of(one_spot(70)):
        assert mask[0, 0, :, 100].nonzero().flatten().tolist() == [136, 152]
    for nothing in (one_spot(UNUSED[0]), one_spot(76), one_spot(70, heat=0.99 * FAINT)):
        assert not any(mask.any() for mask in masks_of(nothing))
    crowded = masks_of(torch.rand(2, LANDMARKS, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))
    assert all(mask.shape == (2, 1, SIDE, SIDE) and mask.min() >= 0 and mask.max() == 1 for mask in crowded)


def test_masks_reach_the_picture_only_of_the_high_pass_variant() -> None:
    """A generator without `hpf` in its file, or a file without `fan`: nothing is handed on."""
    about = golden("starganv2_fan_tiny")
    translator = loaded(about, torch.float32)
    images = about.group("in")["x8"].float() / 127.5 - 1
    with_masks = translator.encoded(images)
    translator.fan = None
    without = translator.encoded(images)
    assert torch.equal(with_masks[0], without[0]) and with_masks[1] and not without[1]

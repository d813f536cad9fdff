"""Where an edit began, written into a picture and read again: exact, within its limit, and never believed blindly."""

import base64
import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.latents.spaces import WPlusSpace
from engine.latents.styles import noisy_layers, style_layers
from engine.models.loading import GeneratorModel
from engine.settings import SettingsError
from engine.tasks.inversion import Renderer, Start, start_from_latents
from engine.tasks.start_metadata import MOST_NUMBERS, packed, start_from_dict, start_to_dict, unpacked
from tests.gmi_ui.tiny import style_generator


@pytest.fixture
def generator() -> GeneratorModel:
    """One whose pictures depend on the noise."""
    generator = style_generator()
    for layer in style_layers(generator.network.synthesis):
        if not layer.is_rgb:
            generator.network.synthesis.get_submodule(layer.name).noise_strength.fill_(0.5)
    return generator


@pytest.fixture
def start(generator: GeneratorModel) -> Start:
    """An edited picture with noise of its own."""
    plain = start_from_latents(generator, "w", generator.spaces["w"].sample([1])[0])
    drawn = torch.Generator().manual_seed(2)
    noise = {
        name: torch.randn(own.shape, generator=drawn) for name, own in noisy_layers(generator.network.synthesis).items()
    }
    residual = torch.randn(plain.residual.shape, generator=drawn)
    with torch.no_grad():
        image = Renderer(generator, noise).render(plain.latents[None], residual)
    return replace(plain, residual=residual, noise=noise, image=image, target=image)


def test_a_start_draws_the_same_picture_after_it_was_written(generator: GeneratorModel, start: Start) -> None:
    values = json.loads(json.dumps(start_to_dict(start)))
    back = start_from_dict(values, generator)
    assert torch.equal(back.latents, start.latents) and torch.equal(back.residual, start.residual)
    assert back.noise.keys() == start.noise.keys() and len(back.noise) > 1
    assert all(torch.equal(back.noise[name], start.noise[name]) for name in start.noise)
    assert torch.equal(back.image, start.image) and torch.equal(back.target, start.image)
    assert back.in_domain is True and not back.image.requires_grad
    without = start_from_dict({name: values[name] for name in ("latents", "residual")}, generator)
    assert not without.noise and not torch.allclose(without.image, start.image, atol=1e-3)


def test_the_largest_start_that_is_kept(start: Start) -> None:
    """MOST_NUMBERS in all, those of the noise counted; one more, and nothing of it is kept."""
    rest = MOST_NUMBERS - start.latents.numel() - start.residual.numel()
    assert start_to_dict(replace(start, noise={"a": torch.zeros(rest - 7), "b": torch.zeros(7)})) is not None
    assert start_to_dict(replace(start, noise={"a": torch.zeros(rest - 7), "b": torch.zeros(8)})) is None


def forged(start: Start, **changes: Any) -> dict[str, Any]:
    return {**(start_to_dict(start) or {}), **changes}


@pytest.mark.parametrize(
    "noise",
    [
        3,
        [],
        {"b4.conv1": [1]},
        {"b4.conv1": [3, 16]},
        {"b4.conv1": [1, 1]},
        {"b4.conv1": [2, 1, 4, 4]},
        {"b4.torgb": [4, 4]},
        {"b4": [4, 4]},
        {"": [4, 4]},
        {"nonsense": [4, 4]},
        {"b4.conv1.affine.weight": [4, 4]},
    ],
)
def test_noise_that_is_not_the_generators_is_refused(generator: GeneratorModel, start: Start, noise: Any) -> None:
    """Unknown layers, and maps of another size, whether or not the picture could be drawn with them."""
    if isinstance(noise, dict):
        noise = {name: packed(torch.zeros(shape)) for name, shape in noise.items()}
    with pytest.raises(SettingsError, match="damaged"):
        start_from_dict(forged(start, noise=noise), generator)


@pytest.mark.parametrize("name", ["latents", "residual"])
def test_a_start_of_another_model_is_told(generator: GeneratorModel, start: Start, name: str) -> None:
    values: torch.Tensor = getattr(start, name)
    for other in (values[:-1], values[None]):
        with pytest.raises(SettingsError, match="made with another model"):
            start_from_dict(forged(start, **{name: packed(other)}), generator)
    with pytest.raises(SettingsError, match="damaged"):
        start_from_dict({key: value for key, value in forged(start).items() if key != name}, generator)


def test_a_start_is_where_the_generator_computes(generator: GeneratorModel, start: Start) -> None:
    """Its numbers become of the generator's own kind, here float64; on a GPU they go there by the same way."""
    w = generator.spaces["w"]
    own = w.statistics  # type: ignore[attr-defined]
    exact = {name: getattr(own, name).double() for name in ("mean", "factor", "low", "high")}
    exact_w: Any = replace(w, statistics=replace(own, **exact))  # type: ignore[type-var]
    network = generator.network.double()
    double = replace(generator, network=network, spaces={"w": exact_w, "w+": WPlusSpace(exact_w, network.num_ws)})
    back = start_from_dict(start_to_dict(start), double)
    assert {values.dtype for values in (back.latents, back.residual, *back.noise.values())} == {torch.float64}
    torch.testing.assert_close(back.image.float(), start.image, rtol=1e-3, atol=1e-4)


def test_numbers_are_packed_in_order_whatever_lies_in_memory() -> None:
    values = torch.arange(6.0, dtype=torch.float64).view(2, 3)
    expected = [3, 2, base64.b64encode(b"".join(map(little, (0, 3, 1, 4, 2, 5)))).decode()]
    assert packed(values.T.requires_grad_()) == expected
    back = unpacked(expected)
    assert back.dtype == torch.float32 and back.tolist() == values.T.tolist()
    back += 1  # a tensor of its own


def little(value: float) -> bytes:
    return bytes(torch.tensor([value]).numpy().astype("<f4").tobytes())


@pytest.mark.parametrize(
    "value",
    [
        None,
        "AAAA",
        (1, "AAAAAA=="),
        ["AAAAAA=="],
        [1, 3],
        ["AAAAAA==", 1],
        [True, "AAAAAA=="],
        [1.0, "AAAAAA=="],
        [0, ""],
        [-1, "AAAAAA=="],
        [MOST_NUMBERS + 1, base64.b64encode(bytes(4 * (MOST_NUMBERS + 1))).decode()],
        [2, "AAAAAA=="],
        *([*shape, "AAAAAA=="] for shape in ([1, -1], [-1, 1], [1, -1, -1], [1, True], [1, 1.0], [1, "1"], [1, None])),
        [1, "AAAAAA=A"],
        [1, "AAAA AA=="],
        [1, "AAAA"],
        [1, "é"],
        *([1, base64.b64encode(little(bad)).decode()] for bad in (math.nan, math.inf, -math.inf)),
    ],
)
def test_what_cannot_have_been_packed_is_refused(value: Any) -> None:
    with pytest.raises(SettingsError, match="damaged"):
        unpacked(value)
    assert unpacked([1, "AAAAAA=="]).tolist() == [0.0]
    assert unpacked([1, 1, MOST_NUMBERS, base64.b64encode(bytes(4 * MOST_NUMBERS)).decode()]).numel() == MOST_NUMBERS


def test_every_refusal_is_an_error_of_its_own() -> None:
    """One that is raised again would keep all that was in reach each time."""
    errors = []
    for _ in range(2):
        with pytest.raises(SettingsError) as caught:
            unpacked(None)
        errors.append(caught.value)
    assert errors[0] is not errors[1]

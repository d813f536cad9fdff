"""The encoders of pSp and e4e: their layers' formulas over again in float64, the public shapes, what is refused.

The formulas walk the state dict with torch's functions and know no module. A tolerance of 1e-10, relative to the
largest entry, is float64's rounding through 60 layers.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.networks.irse_encoder import GridEncoder, MeanEncoder, PyramidEncoder, encoder_from_shapes
from tests.engine import encoder_files
from tests.engine.encoder_files import INPUT, LAYERS, REAL_WIDTHS, W_DIM
from tests.engine.networks.checks import normal
from tests.goldens import assert_near, shapes

State = dict[str, Tensor]
TOLERANCE = 1e-10


def doubled(state: State) -> State:
    return {key: value.double() if value.is_floating_point() else value for key, value in state.items()}


def seeded(make: object, **about: object) -> State:
    torch.manual_seed(0)
    return doubled(make(**about))  # type: ignore[operator]


# ---- the formulas ----------------------------------------------------------------------------------------


def norm(x: Tensor, state: State, name: str) -> Tensor:
    """(x - mean) / sqrt(variance + 1e-5) * weight + bias, by channels."""

    def of(part: str) -> Tensor:
        return state[f"{name}.{part}"][:, None, None]

    return (x - of("running_mean")) / (of("running_var") + 1e-5).sqrt() * of("weight") + of("bias")


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x > 0, x, slope[:, None, None] * x)


def linear(x: Tensor, state: State, name: str) -> Tensor:
    """Weights divided by the square root of what they sum over."""
    weight = state[f"{name}.weight"]
    return x @ weight.T / math.sqrt(weight.shape[1]) + state[f"{name}.bias"]


def maps_of(images: Tensor, state: State) -> dict[int, Tensor]:
    """What each of the 24 units gives."""
    x = F.conv2d(images, state["input_layer.0.weight"], padding=1)
    x = prelu(norm(x, state, "input_layer.1"), state["input_layer.2.weight"])
    maps = {}
    for i in range(24):
        stride, at = 2 if i in (0, 3, 7, 21) else 1, f"body.{i}"
        y = F.conv2d(norm(x, state, f"{at}.res_layer.0"), state[f"{at}.res_layer.1.weight"], padding=1)
        y = prelu(y, state[f"{at}.res_layer.2.weight"])
        y = F.conv2d(y, state[f"{at}.res_layer.3.weight"], stride=stride, padding=1)
        y = norm(y, state, f"{at}.res_layer.4")
        means = F.relu(y.mean((2, 3)) @ state[f"{at}.res_layer.5.fc1.weight"][:, :, 0, 0].T)
        y = y * (means @ state[f"{at}.res_layer.5.fc2.weight"][:, :, 0, 0].T).sigmoid()[:, :, None, None]
        if f"{at}.shortcut_layer.0.weight" in state:
            shortcut = F.conv2d(x, state[f"{at}.shortcut_layer.0.weight"], stride=stride)
            shortcut = norm(shortcut, state, f"{at}.shortcut_layer.1")
        else:
            shortcut = F.max_pool2d(x, 1, stride)
        x = maps[i] = y + shortcut
    return maps


def between_corners(x: Tensor, shape: torch.Size) -> Tensor:
    """Linear interpolation: pixel i of the result lies at i (n - 1) / (side - 1) of the n pixels."""

    def matrix(size: int, side: int) -> Tensor:
        weights = torch.zeros(side, size, dtype=x.dtype)
        for i in range(side):
            place = i * (size - 1) / (side - 1)
            below = min(int(place), size - 2)
            weights[i, below], weights[i, below + 1] = 1 - (place - below), place - below
        return weights

    return matrix(x.shape[2], shape[2]) @ x @ matrix(x.shape[3], shape[3]).T


def head(x: Tensor, state: State, name: str) -> Tensor:
    i = 0
    while f"{name}.convs.{i}.weight" in state:
        x = F.conv2d(x, state[f"{name}.convs.{i}.weight"], state[f"{name}.convs.{i}.bias"], stride=2, padding=1)
        x = torch.where(x > 0, x, 0.01 * x)
        i += 2
    assert x.shape[2:] == (1, 1)
    return linear(x[:, :, 0, 0], state, f"{name}.linear")


def pyramid_heads(images: Tensor, state: State, layers: int) -> list[Tensor]:
    maps = maps_of(images, state)
    coarse, middle, fine = maps[23], maps[20], maps[6]
    middle = F.conv2d(middle, state["latlayer1.weight"], state["latlayer1.bias"])
    middle = middle + between_corners(coarse, middle.shape)
    fine = F.conv2d(fine, state["latlayer2.weight"], state["latlayer2.bias"])
    fine = fine + between_corners(middle, fine.shape)
    return [head(coarse if i < 3 else middle if i < 7 else fine, state, f"styles.{i}") for i in range(layers)]


# ---- parity ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_average", [True, False])
@pytest.mark.parametrize("progressive", [True, False])
@pytest.mark.parametrize(("layers", "halvings", "side"), [(10, 1, 32), (6, 2, 64)])
def test_the_pyramid(progressive: bool, with_average: bool, layers: int, halvings: int, side: int) -> None:
    """pSp: a w for each layer. e4e: the first head's for all, and the differences of the rest, all 17 stages done."""
    state = seeded(encoder_files.pyramid_state, layers=layers, halvings=halvings)
    if with_average:
        state["latent_avg"] = normal(layers, W_DIM, seed=5)
    network = encoder_from_shapes(state, progressive=progressive).double()
    network.load_state_dict(state)
    network.eval()
    images = normal(2, 3, side, side, seed=1)
    heads = pyramid_heads(images, state, layers)
    expected = [heads[0]] + [one + heads[0] if progressive else one for one in heads[1:]]
    average = state["latent_avg"] if with_average else torch.zeros(layers, W_DIM)
    assert_near(network(images), torch.stack(expected, 1) + average, TOLERANCE)
    assert (network.num_ws, network.w_dim, network.input_side) == (layers, W_DIM, side)


def test_a_wide_encoder_does_not_look_at_the_bars() -> None:
    """Of 64 x 64 pixels it sees rows 8 to 55, as of e4e's cars 192 x 256 of 256 x 256."""
    state = seeded(encoder_files.pyramid_state, layers=6, halvings=2)
    network = encoder_from_shapes(state, is_wide=True).double()
    network.load_state_dict(state)
    network.eval()
    images = normal(2, 3, 64, 64, seed=1)
    heads = pyramid_heads(images[:, :, 8:56], state, 6)
    assert_near(network(images), torch.stack([heads[0]] + [one + heads[0] for one in heads[1:]], 1), TOLERANCE)


@pytest.mark.parametrize("rows", [0, 1, LAYERS])
def test_one_w_from_the_mean_of_the_last_map(rows: int) -> None:
    """Averages of the layers that differ make one w for each."""
    state = seeded(encoder_files.mean_state)
    if rows:
        state["latent_avg"] = normal(rows, W_DIM, seed=5)
    network = encoder_from_shapes(state).double()
    assert isinstance(network, MeanEncoder)
    network.load_state_dict(state)
    network.eval()
    images = normal(2, 3, 64, 64, seed=1)
    w = linear(maps_of(images, state)[23].mean((2, 3)), state, "linear")
    expected = w[:, None] + state["latent_avg"] if rows == LAYERS else w + (state["latent_avg"][0] if rows else 0)
    assert_near(network(images), expected, TOLERANCE)


def test_a_w_for_each_layer_from_a_grid_of_the_last_map() -> None:
    """Each of 7 x 7 cells is the mean from floor(14 i / 7) to ceil(14 (i + 1) / 7): here of 2 x 2 pixels."""
    state = seeded(encoder_files.grid_state)
    network = encoder_from_shapes(state).double()
    assert isinstance(network, GridEncoder) and network.num_ws == LAYERS
    network.load_state_dict(state)
    network.eval()
    images = normal(2, 3, 224, 224, seed=1)
    cells = norm(maps_of(images, state)[23], state, "output_layer_2.0").unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    hidden = cells.flatten(1) @ state["output_layer_2.3.weight"].T + state["output_layer_2.3.bias"]
    assert_near(network(images), linear(hidden, state, "linear").reshape(2, LAYERS, W_DIM), TOLERANCE)


# ---- shapes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "layers", "tensors"), [(64, 10, 608), (256, 14, 700), (1024, 18, 792)])
def test_the_public_shapes(side: int, layers: int, tensors: int) -> None:
    """Of pictures of 256 px; with the generator, 608 tensors where that draws 64 px, 792 where it draws 1024 px."""
    state = encoder_files.pyramid_state(REAL_WIDTHS, 16, layers=layers, halvings=4, device="meta")
    network = encoder_from_shapes(state, device="meta")
    assert isinstance(network, PyramidEncoder)
    assert shapes(network.state_dict()) == shapes(state)
    assert (network.num_ws, network.w_dim, network.input_side) == (layers, 512, 256)
    decoder = encoder_files.decoder_state(side, 512, mapping_layers=8, device="meta")
    assert len(state) + len(decoder) == tensors


def test_what_is_no_such_encoder() -> None:
    state = encoder_files.pyramid_state()
    with pytest.raises(ValueError, match="its body has 23 units, an IR-SE-50 has 24"):
        encoder_from_shapes({key: value for key, value in state.items() if not key.startswith("body.23.")})
    with pytest.raises(ValueError, match="no state dict of an encoder of pSp or e4e: it lacks 'input_layer.0.weight'"):
        encoder_from_shapes({})
    with pytest.raises(ValueError, match="head 3 halves 1 times, expected 2"):
        encoder_from_shapes({key: value for key, value in state.items() if not key.startswith("styles.3.convs.2.")})
    grid = encoder_files.grid_state() | {"output_layer_2.3.weight": torch.zeros(W_DIM, 50)}
    with pytest.raises(ValueError, match="its last layers do not fit each other"):
        encoder_from_shapes(grid)


def test_pictures_do_not_depend_on_others_of_the_batch() -> None:
    state = seeded(encoder_files.pyramid_state)
    network = encoder_from_shapes(state).double()
    network.load_state_dict(state)
    network.eval()
    images = normal(3, 3, INPUT, INPUT)
    together = network(images)
    for i in range(3):
        assert_near(network(images[i : i + 1]), together[i : i + 1], 1e-12)

"""Settling: where w goes, that it gets there continuously, and what gradient it leaves."""

import pytest
import torch
from torch import Tensor

from engine.latents.settling import Settling, onto_simplex
from engine.latents.spaces import WSpace, w_statistics

# Ten numbers: weights of three hats, a colour, a skin, a switch.
TENSORS = {
    "settle.mean": torch.full((10,), 0.5),
    "settle.deviation": torch.full((10,), 2.0),
    "settle.low": torch.zeros(10),
    "settle.high": torch.ones(10),
    "settle.leak": torch.tensor(0.0),
    "settle.choice.hat": torch.tensor([0, 1, 2]),
    "settle.power.hat": torch.tensor(4.0),
    "settle.palette.hair": torch.tensor([3, 4, 5]),
    "settle.named.hair": torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
    "settle.pull.hair": torch.tensor(0.8),
    "settle.width.hair": torch.tensor(0.2),
    "settle.line.skin": torch.tensor([6, 7, 8]),
    "settle.corners.skin": torch.tensor([[1.0, 0.9, 0.8], [0.6, 0.4, 0.2], [0.3, 0.2, 0.1]]),
    "settle.tolerance.skin": torch.tensor(0.05),
    "settle.switches": torch.tensor([9]),
}


def settling(**changes: Tensor) -> Settling:
    found = Settling.from_tensors(TENSORS | {f"settle.{name}": value for name, value in changes.items()})
    assert found is not None
    return found


def traits_after(*traits: float) -> list[float]:
    settle = settling()
    w = (torch.tensor(traits) - settle.mean) / settle.deviation
    return list((settle.mean + settle.deviation * settle(w)).tolist())


def test_a_file_without_it_settles_nothing() -> None:
    assert Settling.from_tensors({"mean": torch.zeros(3)}) is None
    with pytest.raises(KeyError, match="power.hat"):
        Settling.from_tensors({name: value for name, value in TENSORS.items() if name != "settle.power.hat"})


def test_the_greatest_weight_takes_nearly_all() -> None:
    *hats, _, _, _, _, _, _, switch = traits_after(0.6, 0.3, 0.1, 1, 0, 0, 0.6, 0.4, 0.2, 0.2)
    assert hats == pytest.approx([0.9404, 0.0588, 0.0007], abs=1e-3)  # .6^4 : .3^4 : .1^4
    assert switch == 0
    assert traits_after(5, 5, -9, 1, 0, 0, 0.6, 0.4, 0.2, 0.8)[:3] == pytest.approx([0.5, 0.5, 0], abs=1e-4)


def test_alternatives_have_each_value_and_keep_all_else() -> None:
    settle = settling()
    traits = torch.tensor(
        [[0.4, 0.5, 0.1, 0.9, 0.1, 0.1, 0.5, 0.4, 0.2, 0.3], [0, 0.1, 0.9, 0, 0, 0.8, 0.3, 0.2, 0.1, 1]]
    )
    w = (traits - settle.mean) / settle.deviation
    hat, hair, skin, switch = settle.options
    assert [option.whole for option in settle.options] == [True, False, False, True]
    hats, own = settle.alternatives(w, hat)
    assert own.tolist() == [1, 2]
    hats = settle.mean + settle.deviation * hats
    torch.testing.assert_close(hats[..., :3], torch.eye(3)[:, None].expand(3, 2, 3))
    torch.testing.assert_close(hats[..., 3:], traits[:, 3:].expand(3, 2, 7))
    colours, own = settle.alternatives(w, hair)
    assert own.tolist() == [0, 1]
    torch.testing.assert_close(colours[0, 0], w[0])  # a colour stays what it is
    torch.testing.assert_close((settle.mean + settle.deviation * colours)[1, 0, 3:6], torch.tensor([0.0, 0.0, 1.0]))
    assert settle.alternatives(w, skin)[1].tolist() == [1, 2]


def test_what_is_rare_is_absent_unless_something_asks_for_it() -> None:
    settle = settling()
    traits = torch.tensor([[1, 0, 0, 1, 0, 0, 0.6, 0.4, 0.2, present] for present in (0.0, 0.4, 0.7, 1.0)])
    w = (traits - settle.mean) / settle.deviation
    switch = settle.options[-1]
    values, own = settle.alternatives(w, switch)
    assert own.tolist() == [0, 0, 0, 0]
    torch.testing.assert_close(
        (settle.mean + settle.deviation * values)[..., -1], torch.tensor([[0.0], [1.0]]).expand(2, 4)
    )


def test_a_switch_is_half_way_in_the_middle() -> None:
    states = [traits_after(1, 0, 0, 1, 0, 0, 0.6, 0.4, 0.2, present)[-1] for present in (0.1, 0.4, 0.5, 0.6, 0.9)]
    assert states == sorted(states)
    assert states[0] == 0 and states[2] == pytest.approx(0.5, abs=1e-5) and states[4] == 1


def test_colours_go_to_the_named_ones_and_skins_onto_their_line() -> None:
    found = traits_after(1, 0, 0, 0.9, 0.1, 0.2, 0.5, 0.5, 0.5, 0)
    assert found[3:6] == pytest.approx([0.98, 0.02, 0.04], abs=0.01)  # a fifth of the way remains
    skin = torch.tensor(found[6:9])
    corners = TENSORS["settle.corners.skin"]
    shares = torch.linspace(0, 1, 1001)[:, None]
    line = torch.cat([torch.lerp(a, b, shares) for a, b in zip(corners[:-1], corners[1:], strict=True)])
    assert (line - skin).norm(dim=1).min() == pytest.approx(0.05, abs=1e-3)
    assert traits_after(1, 0, 0, 1, 0, 0, 0.6, 0.4, 0.2, 0)[6:9] == pytest.approx([0.6, 0.4, 0.2], abs=1e-5)


def test_its_gradient_is_the_slope_and_the_leak_comes_on_top() -> None:
    w = torch.randn(6, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.2
    found = settling()
    exact = Settling(
        found.mean.double(), found.deviation.double(), found.low.double(), found.high.double(), 0.0, found.parts[:1]
    )
    assert torch.autograd.gradcheck(exact, w.requires_grad_(True), atol=1e-4)
    direction = torch.randn(6, 10, generator=torch.Generator().manual_seed(2))
    start = w.detach().float().requires_grad_(True)
    leaky = settling(leak=torch.tensor(0.3))
    (with_leak,) = torch.autograd.grad((leaky(start) * direction).sum(), start)
    (without,) = torch.autograd.grad((settling()(start) * direction).sum(), start)
    torch.testing.assert_close(with_leak, without + 0.3 * direction, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(leaky(start), settling()(start))


def test_the_simplex_projection_moves_no_point_of_it() -> None:
    inside = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(onto_simplex(inside), inside)
    torch.testing.assert_close(onto_simplex(torch.tensor([[2.0, 1.5, -3.0]])), torch.tensor([[0.75, 0.25, 0.0]]))


def test_w_settles() -> None:
    mapping = torch.nn.Linear(10, 10)
    plain = WSpace(mapping, 10, w_statistics(mapping, 10, samples=2000))
    space = WSpace(mapping, 10, plain.statistics, settling=settling())
    u = space.sample([1, 2, 3])
    torch.testing.assert_close(u, plain.sample([1, 2, 3]))
    settled = settling()(plain.decode(u))
    assert not torch.allclose(settled, plain.decode(u), atol=0.1)
    torch.testing.assert_close(space.decode(u), settled)
    torch.testing.assert_close(space.truncated(0.5).decode(u), settling()(plain.truncated(0.5).decode(u)))

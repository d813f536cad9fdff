"""The styled network is the network: the same pictures from styles as from ws, shared weights, noise of one's own."""

import torch

from engine.latents.styles import StyledSynthesis, noisy_layers, style_layers
from engine.networks.stylegan2 import Generator


def generator(architecture: str = "skip", *, noisy: bool = False) -> Generator:
    torch.manual_seed(0)
    network = Generator(
        5,
        0,
        6,
        16,
        channels={4: 8, 8: 6, 16: 4},
        mapping_layers=2,
        architecture=architecture,  # type: ignore[arg-type]
    )
    if noisy:
        for layer in style_layers(network.synthesis):
            if not layer.is_rgb:
                network.get_parameter(f"synthesis.{layer.name}.noise_strength").data.fill_(0.3)
    return network.eval().requires_grad_(False)


def ws_of(network: Generator, count: int = 3) -> torch.Tensor:
    """Different for every layer."""
    return torch.randn(count, network.num_ws, 6, generator=torch.Generator().manual_seed(1))


def test_pictures_from_styles_are_those_from_ws() -> None:
    for architecture in ("skip", "orig", "resnet"):
        for noisy in (False, True):
            network = generator(architecture, noisy=noisy)
            styled = StyledSynthesis(network.synthesis)
            ws = ws_of(network)
            torch.testing.assert_close(styled(styled.styles(ws)), network.synthesis(ws), rtol=0, atol=0)


def test_the_layers_and_their_channels() -> None:
    """conv1 | torgb of 4 px, conv0, conv1 | torgb of 8 and 16: 8 | 8, 8, 6 | 6, 6, 4 | 4; torgb shares the next w."""
    layers = style_layers(generator().synthesis)
    assert [(layer.name, layer.layer) for layer in layers] == [
        ("b4.conv1", 0), ("b4.torgb", 1), ("b8.conv0", 1), ("b8.conv1", 2), ("b8.torgb", 3), ("b16.conv0", 3),
        ("b16.conv1", 4), ("b16.torgb", 5),
    ]  # fmt: skip
    assert [layer.channels.stop - layer.channels.start for layer in layers] == [8, 8, 8, 6, 6, 6, 4, 4]
    editable = StyledSynthesis(generator().synthesis).editable
    assert editable.sum() == 8 + 8 + 6 + 6 + 4
    assert not any(editable[layer.channels].any() for layer in layers if layer.is_rgb)
    assert StyledSynthesis(generator().synthesis).of_draft(8).tolist() == [True] * 36 + [False] * 14


def test_a_draft_depends_on_its_channels_alone() -> None:
    styled = StyledSynthesis(generator().synthesis)
    styles, seen = styled.styles(ws_of(generator())), styled.of_draft(8)
    draft = styled(styles, 8)
    assert torch.equal(styled(torch.where(seen, styles, styles + 1), 8), draft)
    for channel in (seen & styled.editable).nonzero()[:, 0].tolist():
        moved = styles.clone()
        moved[:, channel] += 1
        assert not torch.equal(styled(moved, 8), draft)


def test_the_network_itself_stays_as_it_is() -> None:
    network = generator(noisy=True)
    ws = ws_of(network)
    before, keys = network.synthesis(ws), set(network.state_dict())
    other = {name: torch.zeros_like(values) for name, values in noisy_layers(network.synthesis).items()}
    styled = StyledSynthesis(network.synthesis, other)
    without = styled(styled.styles(ws))
    torch.testing.assert_close(network.synthesis(ws), before, rtol=0, atol=0)
    torch.testing.assert_close(without, network.synthesis(ws, noise_mode="none"), rtol=0, atol=0)
    assert set(network.state_dict()) == keys and not torch.equal(without, before)


def test_noise_is_told_where_it_matters() -> None:
    assert noisy_layers(generator().synthesis) == {}
    assert set(noisy_layers(generator(noisy=True).synthesis)) == {
        "b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1",
    }  # fmt: skip


def test_gradients_reach_styles_and_noise() -> None:
    network = generator(noisy=True).double()
    noise = {name: values.clone().requires_grad_() for name, values in noisy_layers(network.synthesis).items()}
    styled = StyledSynthesis(network.synthesis, noise)
    styles = styled.styles(ws_of(network, 1).double())
    name, values = next(iter(noise.items()))
    torch.autograd.gradcheck(styled, styles.requires_grad_(), fast_mode=True)
    (gradient,) = torch.autograd.grad(styled(styles).square().sum(), values)
    assert gradient.abs().sum() > 0

"""Noise as a latent: per-particle seeds, shells, and what a person may ask of the sizes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from engine.latents.noise import NoiseSpace
from engine.settings import SettingsError


def space(steps: int = 1, side: int = 64) -> NoiseSpace:
    """Of a sampler that draws as many noises as it has steps."""
    return NoiseSpace(
        channels=4,
        height=side,
        width=side,
        factor=8,
        multiple=16,
        usual_steps=2,
        draws_of=lambda steps: steps,
        read=str.upper,
        encode=lambda images: images[:, :1],
        steps=steps,
    )


@pytest.mark.parametrize(
    ("given", "size"), [((100, 100), (64, 64)), ((640, 360), (80, 48)), ((1, 4), (32, 128)), ((3000, 2), (2480, 16))]
)
def test_a_picture_gives_its_proportions_and_the_model_the_number_of_pixels(
    given: tuple[int, int], size: tuple[int, int]
) -> None:
    """In whole multiples of 16: 64 sqrt(16 / 9) = 85.3, and 64 sqrt(9 / 16) = 48."""
    assert space().fitting(*given) == size


def test_a_particle_is_its_seeds_alone() -> None:
    """Bit for bit, whatever the others are; and its first noise is the same however many steps follow."""
    noise = space(3).sample((7, 8, 9))
    assert noise.shape == (3, 3, 4, 8, 8)
    assert torch.equal(noise[1:2], space(3).sample((8,)))
    assert torch.equal(noise[:, :1], space(1).sample((7, 8, 9)))
    assert not torch.equal(noise[0, 0], noise[0, 1]) and not torch.equal(noise[0], noise[1])


def test_each_noise_keeps_the_length_of_a_gaussian() -> None:
    """|n| = sqrt(d), d = C h w, by the nearest point: a scaled noise comes back; what is on the shell stays."""
    noise = space(2).sample((1, 2))
    lengths = noise.flatten(2).norm(dim=2)
    assert torch.allclose(lengths, torch.full_like(lengths, math.sqrt(4 * 8 * 8)))
    factors = torch.tensor([0.3, 5.0]).view(1, 2, 1, 1, 1)
    assert torch.allclose(space(2).constrain(factors * noise), noise, atol=1e-5)
    assert space(2).scale == pytest.approx(noise[0].norm().item())


def test_noise_is_gaussian() -> None:
    """Of 65,536 numbers mean 0, and neighbours that know nothing of each other, to four standard errors."""
    numbers = space(1, side=1024).sample((3,)).flatten()
    count = len(numbers)
    assert abs(numbers.mean()) < 4 / math.sqrt(count)
    assert abs((numbers[:-1] * numbers[1:]).mean()) < 4 / math.sqrt(count)


def test_the_log_prior_is_that_of_the_gaussian() -> None:
    noise = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise.requires_grad_()
    value = space().log_prior(noise)
    assert torch.allclose(torch.autograd.grad(value.sum(), noise)[0], -noise)


def test_what_is_drawn() -> None:
    drawn = space().drawing("a cat", steps=0, gradient_steps="last", width=32, height=0)
    assert drawn.told == "A CAT" and drawn.steps == 2 and drawn.gradient_steps == "last"
    assert drawn.shape == (2, 4, 8, 4)
    assert drawn.truncated(0.5) is drawn
    assert replace(drawn, steps=4).shape[0] == 4


@pytest.mark.parametrize(("side", "said"), [(500, "choose 496 or 512"), (7, "choose 16"), (513, "choose 512 or 528")])
def test_sizes_that_the_networks_cannot_halve(side: int, said: str) -> None:
    with pytest.raises(SettingsError, match=f"^height: {side} is no multiple of 16 pixels; {said}"):
        space().drawing("a", steps=1, gradient_steps="all", width=0, height=side)

"""From noise to a latent in few steps: the samplers of distilled diffusion models, as functions without state.

Every sampler here is linear in what the network says. At step i of K, with x_i the noisy latent and e_i the network's
answer to input_i x_i at time t_i,

    d_i = x_share_i x_i + out_share_i e_i            what the step takes the clean latent for
    x_(i+1) = kept_i x_i + clean_i d_i + noise_i n_i  and n_i fresh Gaussian noise, of all steps but the last

and d_(K-1) is the result. x_0 is noise alone, or a clean latent that is given with noise added to it, as much as
belongs to the time at which the steps then begin (Meng et al. 2022, SDEdit). The noise that a sampler draws is handed
in from outside: it is part of a particle. Time counts down from the last of T; alpha_bar_t is the share of the signal's
variance left at time t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

Sampler = str  # "euler", "euler_ancestral" or "lcm"
SAMPLERS: Mapping[str, Sampler] = {
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "LCMScheduler": "lcm",
}
LCM_SIGMA = 0.5  # of the data, in the boundary condition (Luo et al. 2023, Section 4)


class Move(NamedTuple):
    """One step's coefficients, see the module."""

    time: int
    input: float
    x_share: float
    out_share: float
    kept: float
    clean: float
    noise: float


@dataclass(frozen=True)
class Denoising:
    """K moves. start: what the initial noise is multiplied with; draws: how much noise a particle has, 1 or K.

    mixed: what a clean latent that the steps begin at is multiplied with, and then the initial noise.
    """

    moves: tuple[Move, ...]
    start: float
    draws: int
    mixed: tuple[float, float]


def denoising(schedule: Mapping[str, Any], steps: int, strength: float = 1.0) -> Denoising:
    """The moves of K = `steps` steps, of a scheduler's configuration, `_class_name` among its fields.

    strength: the share of the time at which they begin, 1 for the last time, at which all is noise.

    Euler (Karras et al. 2022, Algorithm 2 without churn) with or without fresh noise, at times trailing from the last,
    or the multistep sampler of latent consistency models (Luo et al. 2023, Algorithm 3).
    """
    sampler = SAMPLERS[schedule["_class_name"]]
    alphas = alpha_bars(schedule)
    if sampler == "lcm":
        return _consistency(schedule, alphas, steps, strength)
    return _euler(schedule, alphas, steps, strength, fresh=sampler == "euler_ancestral")


def usual_steps(schedule: Mapping[str, Any]) -> int:
    """For how many steps such models are made: four of consistency models, one of the others."""
    return 4 if SAMPLERS[schedule["_class_name"]] == "lcm" else 1


def alpha_bars(schedule: Mapping[str, Any]) -> Tensor:
    """The share of the signal's variance left at each time: [T], float64, falling."""
    count, first, last = schedule["num_train_timesteps"], schedule["beta_start"], schedule["beta_end"]
    if schedule["beta_schedule"] == "scaled_linear":
        betas = torch.linspace(math.sqrt(first), math.sqrt(last), count, dtype=torch.float64).square()
    else:
        betas = torch.linspace(first, last, count, dtype=torch.float64)
    return (1 - betas).cumprod(0)


def trailing_times(count: int, steps: int) -> list[int]:
    """`steps` of the times 0 ... count - 1, evenly from the last one down, the last one among them."""
    return [round(count - step * count / steps) - 1 for step in range(steps)]


def consistency_times(count: int, grid: int, steps: int, strength: float = 1.0) -> list[int]:
    """The times of a consistency model: of the `grid` ones it was distilled at, `steps` evenly from the last one.

    strength: the share of those, from the first one on, that count.
    """
    spacing, kept = count // grid, max(int(grid * strength), steps)
    known = [spacing * (index + 1) - 1 for index in range(kept)][::-1]
    return [known[step * kept // steps] for step in range(steps)]


def _euler(schedule: Mapping[str, Any], alphas: Tensor, steps: int, strength: float, *, fresh: bool) -> Denoising:
    """x is the clean latent and sigma times noise."""
    times = trailing_times(max(round(strength * len(alphas)), steps), steps)
    sigmas = [math.sqrt((1 - a) / a) for a in (float(alphas[time]) for time in times)] + [0.0]
    moves = []
    for time, sigma, following in zip(times, sigmas, sigmas[1:], strict=False):
        up = math.sqrt(following**2 * (sigma**2 - following**2) / sigma**2) if fresh else 0.0
        down = math.sqrt(following**2 - up**2)
        whole = math.sqrt(sigma**2 + 1)
        x_share, out_share = {
            "epsilon": (1.0, -sigma),
            "v_prediction": (1 / whole**2, -sigma / whole),
            "sample": (0.0, 1.0),
        }[schedule["prediction_type"]]
        moves.append(Move(time, 1 / whole, x_share, out_share, down / sigma, 1 - down / sigma, up))
    return Denoising(tuple(moves), sigmas[0], steps if fresh else 1, (1.0, sigmas[0]))


def _consistency(schedule: Mapping[str, Any], alphas: Tensor, steps: int, strength: float) -> Denoising:
    """x is the clean latent times a, and noise times b, a^2 + b^2 = 1."""
    times = consistency_times(len(alphas), schedule["original_inference_steps"], steps, strength)
    moves = []
    for index, time in enumerate(times):
        a, b = _shares(alphas, time)
        scaled = time * schedule["timestep_scaling"]
        skip = LCM_SIGMA**2 / (scaled**2 + LCM_SIGMA**2)
        out = scaled / math.sqrt(scaled**2 + LCM_SIGMA**2)
        x_share, out_share = {
            "epsilon": (1 / a, -b / a),
            "v_prediction": (a, -b),
            "sample": (0.0, 1.0),
        }[schedule["prediction_type"]]
        following = _shares(alphas, times[index + 1]) if index + 1 < steps else (1.0, 0.0)
        moves.append(Move(time, 1.0, skip + out * x_share, out * out_share, 0.0, *following))
    return Denoising(tuple(moves), 1.0, steps, _shares(alphas, times[0]))


def _shares(alphas: Tensor, time: int) -> tuple[float, float]:
    alpha = float(alphas[time])
    return math.sqrt(alpha), math.sqrt(1 - alpha)


def denoised(
    predict: Callable[[Tensor, int], Tensor],
    noise: Tensor,
    course: Denoising,
    *,
    begin: Tensor | None = None,
    last_only: bool = False,
) -> Tensor:
    """The clean latents [N, C, h, w] that all steps make of noise [N, draws, C, h, w].

    begin: [1, C, h, w], a clean latent that the noise is added to. predict: latents and a time to what the network
    says, both [N, C, h, w]. last_only: gradients go through the network of the last step alone; through those before
    they go past it, as if what it said there were a constant.
    """
    share, spread = course.mixed
    x = course.start * noise[:, 0] if begin is None else share * begin + spread * noise[:, 0]
    for index, move in enumerate(course.moves):
        is_last = index + 1 == len(course.moves)
        with torch.set_grad_enabled(torch.is_grad_enabled() and (is_last or not last_only)):
            said = predict(move.input * x, move.time)
        clean = move.x_share * x + move.out_share * said
        if is_last:
            return clean
        x = move.kept * x + move.clean * clean
        if move.noise:
            x = x + move.noise * noise[:, index + 1]
    raise ValueError("A course without steps makes nothing.")

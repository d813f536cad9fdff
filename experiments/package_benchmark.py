"""Time BigGAN-deep and the dVAE forward and backward to the latent: ours against the packages on PyPI.

    pip install -r experiments/requirements.txt
    python -m experiments.package_benchmark [--cases biggan-deep-128x2 biggan-deep-256x1 dvae-256x1] [--repeats 3]

prints a Markdown table; a case is a network of the public size, its pixels and the batch. Weights are random (time
does not depend on them) but the same in both, and so are the latents: pictures and gradients have to agree. Both run
in turns in one process, so that other work on the machine disturbs both alike. Times are processor seconds, those
of all threads added, the least of the repeats.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import engine
from engine.networks import biggan_deep, dalle_dvae
from experiments import options

TOLERANCE = 1e-2  # in float32: rounding turns a few ReLUs of these deep networks on or off
DEFAULT_CASES = ("biggan-deep-128x2", "biggan-deep-256x1", "dvae-256x1")
TRUNCATION = 0.4
# Doubles the side or not, and the widths before and after in units of 128 channels; as in the public config.json.
BIGGAN_LAYERS: dict[int, tuple[tuple[bool, int, int], ...]] = {
    128: (
        (False, 16, 16), (True, 16, 16), (False, 16, 16), (True, 16, 8), (False, 8, 8),
        (True, 8, 4), (False, 4, 4), (True, 4, 2), (False, 2, 2), (True, 2, 1),
    ),
    256: (
        (False, 16, 16), (True, 16, 16), (False, 16, 16), (True, 16, 8), (False, 8, 8), (True, 8, 8),
        (False, 8, 8), (True, 8, 4), (False, 4, 4), (True, 4, 2), (False, 2, 2), (True, 2, 1),
    ),
}  # fmt: skip
ATTENTION = 8  # position in the list of layers

QUICK = {"cases": ["dvae-64x1"], "repeats": 1}

Pass = Callable[[], tuple[Tensor, Tensor]]  # pictures, and the gradient by the latent


@dataclass(frozen=True)
class Case:
    """A network, its pixels and the batch."""

    network: str
    resolution: int
    batch: int


def parse_case(text: str) -> Case:
    """`biggan-deep-256x1` -> Case("biggan-deep", 256, 1). Raises ValueError."""
    name, _, batch = text.rpartition("x")
    network, _, resolution = name.rpartition("-")
    case = Case(network, int(resolution), int(batch))
    if case.network not in PAIRS:
        raise ValueError(f"{case.network!r} is no network to compare; there are {', '.join(PAIRS)}")
    return case


def gradient_pass(render: Callable[[Tensor], Tensor], latents: Tensor, cotangent: Tensor) -> Pass:
    """One forward and one backward pass."""

    def work() -> tuple[Tensor, Tensor]:
        inputs = latents.clone().requires_grad_()
        images = render(inputs)
        (gradient,) = torch.autograd.grad(images, inputs, cotangent)
        return images.detach(), gradient

    return work


def biggan_pair(case: Case) -> tuple[Pass, Pass]:
    """Ours and `pytorch_pretrained_biggan`."""
    from pytorch_pretrained_biggan import BigGAN, BigGANConfig

    layers = BIGGAN_LAYERS[case.resolution]
    ours = biggan_deep.BigGAN(
        128,
        128,
        1000,
        channel_width=128,
        channels=[(128 * before, 128 * after) for _, before, after in layers],
        up=[up for up, _, _ in layers],
        attention=ATTENTION,
    )
    biggan_deep.draw_weights(ours, torch.Generator().manual_seed(0))
    theirs = BigGAN(
        BigGANConfig(
            output_dim=case.resolution,
            layers=[list(layer) for layer in layers],
            attention_layer_position=ATTENTION,
            num_classes=1000,
        )
    )
    theirs.load_state_dict(ours.state_dict())
    for network in (ours, theirs):
        network.eval().requires_grad_(False)
    draws = torch.Generator().manual_seed(1)
    z = TRUNCATION * torch.randn(case.batch, 128, generator=draws)
    classes = torch.nn.functional.one_hot(torch.arange(case.batch), 1000).float()
    cotangent = torch.randn(case.batch, 3, case.resolution, case.resolution, generator=draws)
    return (
        gradient_pass(lambda z: ours(z, classes, TRUNCATION), z, cotangent),
        gradient_pass(lambda z: theirs(z, classes, TRUNCATION), z, cotangent),
    )


def dvae_pair(case: Case) -> tuple[Pass, Pass]:
    """Our decoder and `dall_e`'s, from mixtures of the 8,192 codes."""
    from dall_e import Decoder

    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = dalle_dvae.Decoder(256, 8192)
    theirs = Decoder(use_mixed_precision=False)
    theirs.load_state_dict(ours.state_dict())
    for network in (ours, theirs):
        network.eval().requires_grad_(False)
    draws = torch.Generator().manual_seed(1)
    side = case.resolution // ours.scale_factor
    mixtures = torch.randn(case.batch, 8192, side, side, generator=draws).softmax(1)
    cotangent = torch.randn(case.batch, 6, case.resolution, case.resolution, generator=draws)
    return gradient_pass(ours, mixtures, cotangent), gradient_pass(theirs, mixtures, cotangent)


PAIRS: dict[str, Callable[[Case], tuple[Pass, Pass]]] = {"biggan-deep": biggan_pair, "dvae": dvae_pair}


def assert_equal_results(ours: Pass, theirs: Pass) -> None:
    """Raises AssertionError where pictures or gradients differ by more than the tolerance."""
    for what, mine, other in zip(("pictures", "gradients"), ours(), theirs(), strict=True):
        error = float((mine - other).abs().max() / other.abs().max())
        assert error <= TOLERANCE, f"the {what} differ by {error:.1e} of the largest"


def measure(ours: Pass, theirs: Pass, repeats: int) -> tuple[float, float]:
    """The least processor seconds of each, in turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for work, times in zip((ours, theirs), seconds, strict=True):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
    return min(seconds[0]), min(seconds[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=DEFAULT_CASES)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = options.parse(parser, QUICK)
    threads = engine.set_threads(arguments.threads)
    print(f"{threads} thread(s), processor seconds, forward and backward\n")
    print("| network | pixels | n | ours | package | package / ours |\n|---|---|---|---|---|---|")
    for case in map(parse_case, arguments.cases):
        ours, theirs = PAIRS[case.network](case)
        assert_equal_results(ours, theirs)
        mine, other = measure(ours, theirs, arguments.repeats)
        row = f"| {case.network} | {case.resolution} | {case.batch} | {mine:.2f} | {other:.2f} | {other / mine:.2f} |"
        print(row, flush=True)


if __name__ == "__main__":
    main()

"""More particles than memory: terms and their gradients, a part of the particles at a time.

No picture and no graph outlives its part; of all particles at once there are features, values and gradients by
latents. What `flow` compares at the images, lengths and sums of gradients there, follows from their inner products.
N particles, K terms, G sums of them that go through the generator, D features.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from engine.inference.terms import Batch, Extractor, Stage, Term, apply_in_chunks
from engine.system import processes


class Measured(NamedTuple):
    """Of every particle; gradients are empty ([N, 0, ...]) where none were asked for."""

    values: Tensor  # [N, K]
    products: Tensor  # [N, K, K]: inner products of the terms' gradients by the picture
    moves: Tensor  # [N, G, *shape]: the sums of those gradients, pulled back through the generator
    by_latents: Tensor  # [N, K, *shape]: what terms take from the latents directly


def features_of(
    render: Callable[[Tensor], Tensor], extractors: Sequence[Extractor], latents: Tensor, size: int
) -> tuple[Tensor, ...]:
    """Every extractor's features [N, ...] of the particles' pictures, `size` at a time, without a gradient."""

    def work(rows: slice) -> tuple[Tensor, ...]:
        images = apply_in_chunks(render, latents[rows], None)
        return tuple(apply_in_chunks(extractor, images, None) for extractor in extractors)

    return processes.by_parts(processes.parts_of(len(latents), size), work)


def measure(
    render: Callable[[Tensor], Tensor],
    terms: Sequence[Term],
    latents: Tensor,
    size: int,
    *,
    sums: Tensor | None,
    step: int = 0,
) -> Measured:
    """The terms of all particles, `size` at a time. sums: [G, K], weights of the gradients' sums; None: no gradients.

    Each term is asked of a batch of some of the particles, whose `rows` say which.
    """

    def work(rows: slice) -> Measured:
        part = latents[rows]
        nothing = part.new_empty((len(part), 0))
        if not terms:
            return Measured(nothing, nothing, nothing, nothing)
        if sums is None:
            batch = Batch(part, apply_in_chunks(render, part, None), step=step, chunk=len(part), rows=rows)
            found = [term.log_value(batch).detach() for term in terms]
            return Measured(torch.stack(found, 1), nothing, nothing, nothing)
        generated = Stage(render, part, None)
        batch = Batch(part, generated.output, step=step, rows=rows)
        with torch.enable_grad():
            log_values = [term.log_value(batch) for term in terms]
        by_images, by_latents = batch.gradients(log_values)
        gradients = torch.stack(by_images, 1)  # [R, K, ...]
        flat = gradients.flatten(2)
        cotangents = [torch.einsum("k,rk...->r...", row, gradients) for row in sums.to(gradients)]
        used = [number for number, cotangent in enumerate(cotangents) if cotangent.any()]
        moves = part.new_zeros((len(part), len(sums), *part.shape[1:]))
        if used:
            moves[:, used] = torch.stack(generated.pull_back([cotangents[number] for number in used]), 1)
        values = torch.stack([value.detach() for value in log_values], 1)
        return Measured(values, flat @ flat.mT, moves, torch.stack(by_latents, 1))

    return Measured(*processes.by_parts(processes.parts_of(len(latents), size), work))

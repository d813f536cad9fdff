"""What the training scripts share."""

from itertools import islice
from pathlib import Path

import numpy as np
import torch

from training.avatars import synthesis
from training.jobs import Average, Job, batches, set_schedule


def train(folder: Path, steps: int) -> torch.nn.Linear:
    """A tiny run that saves at its end and resumes at its start."""
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 1)
    optimizer = torch.optim.Adam(network.parameters())
    job = Job(folder)
    job.resume(network=network, optimizer=optimizer)
    while job.step < steps:
        draws = torch.Generator().manual_seed(job.step)
        set_schedule(optimizer, job.step, 10, 0.1, warmup=2)
        loss = network(torch.randn(4, 3, generator=draws)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        job.finish_step(loss=loss.item())
    job.save()
    return network


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    train(tmp_path / "two", 4)
    resumed, whole = train(tmp_path / "two", 10), train(tmp_path / "one", 10)
    assert torch.equal(resumed.weight, whole.weight)


def test_batches_continue_where_a_run_stopped() -> None:
    whole = list(islice(batches(50, 8, seed=1, start_step=0), 20))
    rest = list(islice(batches(50, 8, seed=1, start_step=9), 11))
    assert all(np.array_equal(a, b) for a, b in zip(whole[9:], rest, strict=True))
    first_pass = np.concatenate(whole[:6])
    assert len(set(first_pass.tolist())) == 48  # nothing twice within a pass


def test_the_schedule_rises_then_falls() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rates = []
    for step in range(101):
        set_schedule(optimizer, step, 100, 2.0, warmup=10)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) <= 2.0 and rates[-1] == 2.0 * 0.02


def test_the_average_of_a_constant_is_the_constant() -> None:
    network = torch.nn.Linear(2, 2)
    average = Average(network, 0.9)
    for step in range(5):
        average.update(network, step)
    assert torch.allclose(average.state_dict()["weight"], network.weight)


def test_drawing_at_full_size_is_the_generator_itself() -> None:
    torch.manual_seed(0)
    generator = synthesis.build().eval()
    w = torch.randn(2, synthesis.W_DIM)
    with torch.no_grad():
        whole = generator.synthesis(w[:, None].expand(-1, generator.num_ws, -1), noise_mode="none")
        assert torch.allclose(synthesis.synthesize(generator, w), whole, atol=1e-5)
        assert synthesis.synthesize(generator, w, 32).shape == (2, 3, 32, 32)

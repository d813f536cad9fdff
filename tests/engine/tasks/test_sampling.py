"""Others' samplers as presets of the one flow, against the samplers themselves; starts that a discriminator chooses."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.inference import flow
from engine.inference.terms import TRANSPORT_SHIFT, Batch, Realism
from engine.latents.spaces import LatentSpace, normal_per_seed
from engine.samplers import stein, transport
from engine.settings import SAMPLERS, FlowSettings, GenerateSettings, Selection, SettingsError
from engine.tasks import Generation, baseline, check, generate
from engine.tasks.sampling import chosen_seeds, steepest
from tests.engine.tasks.test_tasks import ToyModel, of_classes
from tests.engine.tasks.test_without_words import Blind
from tests.engine.toys import LATENT, FreeSpace, ToyPromptModel

NOISE_FREE = {name: replace(flow, langevin=0.0, steps=6, constrain=False) for name, flow in SAMPLERS.items()}


@dataclass(eq=False)
class FreeModel(ToyModel):
    """Its latents may go anywhere, as the samplers' do."""

    spaces: dict[str, LatentSpace] = field(default_factory=lambda: {"z": FreeSpace(LATENT)})


def made(
    preset: str, *, model: ToyModel | None = None, flow: FlowSettings | None = None, **changes: object
) -> Generation:
    settings = GenerateSettings("", n=5, seed=10).with_preset(preset)
    settings = replace(settings, flow=flow or NOISE_FREE[preset], **changes)  # type: ignore[arg-type]
    return generate(settings, model or FreeModel(), ToyPromptModel())


def logits(model: ToyModel, latents: Tensor) -> Tensor:
    return model.discriminator(model.network(latents))[:, 0]


def discriminator_of(model: ToyModel) -> Callable[[Tensor], Tensor]:
    return lambda images: model.discriminator(images)[:, 0]


def energy_of(model: ToyModel) -> Callable[[Tensor], Tensor]:
    """latents -> the log of the prior times the discriminator's ratio."""
    return lambda latents: logits(model, latents) - latents.square().sum(1) / 2


def path(task: Generation) -> list[Tensor]:
    return [step.particles.latents for step in task.steps()]


def assert_same(states: list[Tensor], wanted: Iterator[Tensor]) -> None:
    torch.testing.assert_close(torch.stack(states), torch.stack(list(wanted)), rtol=1e-9, atol=1e-9)


def test_dot_is_the_descent_of_its_own_paper() -> None:
    """|z - z0| - D / k_eff, with the way measured from the task's start and k_eff between latents of the space."""
    model = FreeModel()
    task = made("dot", model=model)
    d = discriminator_of(model)
    slope = transport.lipschitz(model.network, d, FreeSpace(LATENT).sample(range(64)))
    assert task.steepest == pytest.approx(slope)
    z = task.particles.latents
    assert_same(path(task), transport.dot(model.network, d, z, steps=6, rate=0.01, k_eff=slope))
    states = path(task)
    assert (states[-1] - states[0]).norm(dim=1).min() > TRANSPORT_SHIFT


def test_a_transport_that_goes_on_counts_from_where_it_began() -> None:
    task = made("dot")
    *_, last = task.steps()
    middle = list(task.steps())[3]
    *_, resumed = task.steps(None, middle.particles)
    assert torch.equal(last.particles.latents, resumed.particles.latents)


def test_dgflow_follows_the_ratio_and_ddls_the_prior_too() -> None:
    model = FreeModel()
    z = made("dgflow", model=model).particles.latents
    wanted = transport.dgflow(model.network, discriminator_of(model), z, steps=6, step_size=0.1, noise=0.0)
    assert_same(path(made("dgflow", model=model)), wanted)
    energy = energy_of(model)
    moved = z + SAMPLERS["ddls"].step_size * stein.score_of(energy, z)
    torch.testing.assert_close(path(made("ddls", model=model))[1], moved)


@pytest.mark.parametrize(("preset", "temperature"), [("ddls", 1.0), ("dgflow", 0.01)])
def test_their_noise_is_of_the_papers_temperature(preset: str, temperature: float) -> None:
    """DDLS: sqrt(eps) with eps = 2 * step_size; DGflow: sqrt(2 eta gamma)."""
    settings = replace(NOISE_FREE[preset], langevin=SAMPLERS[preset].langevin)
    noisy, still = made(preset, flow=settings), made(preset)
    drawn = normal_per_seed((LATENT,), purpose="noise", seeds=noisy.particles.seeds, step=0).double()
    torch.testing.assert_close(path(noisy)[1] - path(still)[1], (2 * settings.step_size * temperature) ** 0.5 * drawn)


def test_svgd_is_that_of_its_authors_and_goes_on_with_their_memory() -> None:
    model = FreeModel()
    task = made("svgd", model=model)
    energy = energy_of(model)
    assert_same(path(task), stein.svgd(energy, task.particles.latents, steps=6, step_size=SAMPLERS["svgd"].step_size))
    middle, last = list(task.steps())[2], path(task)[-1]
    assert middle.particles.momentum is not None
    *_, resumed = task.steps(None, middle.particles)
    assert torch.equal(resumed.particles.latents, last)
    *_, forgetful = task.steps(None, replace(middle.particles, momentum=None))
    assert not torch.allclose(forgetful.particles.latents, last)


@pytest.mark.parametrize("preset", ["dot", "svgd"])
def test_of_a_crowd_each_particle_has_its_own_start(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worked on in parts, the particles go as they do together."""
    whole = path(made(preset))
    monkeypatch.setattr(flow, "TOGETHER", 4)
    parts = path(made(preset, flow=replace(NOISE_FREE[preset], chunk=2)))
    torch.testing.assert_close(torch.stack(parts), torch.stack(whole), rtol=1e-8, atol=1e-10)


def test_words_are_a_condition_of_theirs_too() -> None:
    """Beside the discriminator's logit; what the transport divides by is the slope of both."""
    settings = replace(GenerateSettings("a hat", n=3).with_preset("dot"), flow=NOISE_FREE["dot"])
    task = generate(settings, FreeModel(), ToyPromptModel())
    first = next(task.steps())
    assert set(first.log_values) == {"text", "realism", "transport"}
    assert task.steepest > 3 * made("dot").steepest  # the toy's logit scale is 10


def test_a_condition_that_is_flat_moves_nothing() -> None:
    class Indifferent(FreeModel):
        def discriminator(self, images: Tensor) -> Tensor:
            return 0 * images.mean((1, 2, 3))[:, None]

    task = made("dot", model=Indifferent())
    assert task.steepest == 1.0
    assert (path(task)[-1] - task.particles.latents).norm(dim=1).max() < 0.02  # a step to either side


def test_slopes_are_those_of_one_class() -> None:
    """A discriminator that only tells classes apart is flat in each."""
    task = of_classes()
    settings = replace(SAMPLERS["dot"], condition_weight=0.0)

    class Classes:
        name = "classes"

        def log_value(self, batch: Batch) -> Tensor:
            return 100 * batch.latents[:, LATENT:].argmax(1).double()

    assert steepest(replace(task.problem, realism=Classes()), settings) == 1.0
    assert steepest(replace(task.problem, realism=Realism(ToyModel().discriminator)), settings) != 1.0


@pytest.mark.parametrize("preset", SAMPLERS)
@pytest.mark.parametrize("prompt", ["", "a hat"])
def test_what_runs_beside_them_is_the_model_alone(preset: str, prompt: str) -> None:
    settings = GenerateSettings(prompt, n=3).with_preset(preset)
    assert baseline(settings).flow.until == 0
    task = generate(replace(settings, flow=replace(settings.flow, steps=2)), ToyModel(), ToyPromptModel()).baseline()
    *_, last = task.steps()
    assert torch.equal(last.particles.latents, task.particles.latents)


@pytest.mark.parametrize("preset", SAMPLERS)
def test_they_need_a_discriminator(preset: str) -> None:
    with pytest.raises(SettingsError, match="preset: .* follows a discriminator, and avatars comes without one"):
        made(preset, model=Blind())
    with pytest.raises(SettingsError, match="choose another|Choose another"):
        check(GenerateSettings("").with_preset(preset), Blind(), ToyPromptModel())


def test_svgd_by_words_needs_none() -> None:
    settings = replace(GenerateSettings("a hat", n=3).with_preset("svgd"), flow=replace(SAMPLERS["svgd"], steps=2))
    first, *_, last = generate(settings, Blind(), ToyPromptModel()).steps()
    assert set(first.log_values) == {"text", "prior"} and last.step == 2


# ---- starts ----------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Sharp(FreeModel):
    """Tells pictures apart by more than an odds of two."""

    def discriminator(self, images: Tensor) -> Tensor:
        return 40 * images.mean((1, 2, 3))[:, None]


@pytest.mark.parametrize("choose", ["sir", "drs", "mh"])
def test_starts_are_chosen_by_the_discriminator(choose: str) -> None:
    model = Sharp()
    plain, chosen = made("dgflow", model=model), made("dgflow", model=model, choose=choose, draws=16)
    pool = FreeSpace(LATENT).sample(range(10, 10 + 5 * 16))
    mean = logits(model, pool).mean()
    assert logits(model, chosen.particles.latents).mean() > mean + logits(model, pool).std() / 2
    assert not torch.equal(plain.particles.latents, chosen.particles.latents)
    seeds = chosen.particles.seeds
    assert len(set(seeds)) == 5 and all(10 <= seed < 10 + chosen.settings.seeds_drawn for seed in seeds)
    assert torch.equal(chosen.particles.latents, FreeSpace(LATENT).sample(seeds))
    again = made("dgflow", model=Sharp(), choose=choose, draws=16)
    assert again.particles.seeds == seeds


def test_a_chain_ends_at_one_of_its_own_proposals() -> None:
    seeds = made("dgflow", model=Sharp(), choose="mh", draws=16).particles.seeds
    assert [(seed - 10) // 16 for seed in seeds] == [0, 1, 2, 3, 4]


def test_choosing_can_be_ended() -> None:
    class Enough(Exception):
        pass

    def watch(*_: object) -> None:
        raise Enough

    settings = GenerateSettings("", n=3, choose="sir")
    with pytest.raises(Enough):
        generate(settings, ToyModel(), ToyPromptModel(), watch=watch)


@pytest.mark.parametrize("choose", ["sir", "drs", "mh"])
def test_each_place_keeps_its_class(choose: Selection) -> None:
    """However much better the discriminator likes another."""
    task = of_classes()

    class Classes:
        name = "classes"

        def log_value(self, batch: Batch) -> Tensor:
            return 100 * batch.latents[:, LATENT:].argmax(1).double() + 10 * batch.latents[:, 0]

    settings = GenerateSettings("", n=7, seed=4, choose=choose, draws=5)
    space: Any = task.problem.space
    seeds = chosen_seeds(settings, task.problem, Classes(), space.sample)

    def classes(seeds: Sequence[int]) -> list[int]:
        return space.weights(space.sample(seeds)).argmax(1).tolist()

    assert classes(seeds) == classes(range(4, 11)) and len(set(classes(seeds))) > 1 and len(set(seeds)) == 7
    assert space.sample(seeds)[:, 0].mean() > space.sample(range(4, 39))[:, 0].mean() + 0.2


def test_rejection_goes_on_until_it_has_enough() -> None:
    """About every fifth is accepted: 40 of 80 take several rounds, whose seeds are others."""
    seeds = made("dgflow", model=Sharp(), choose="drs", draws=2, n=40).particles.seeds
    assert len(set(seeds)) == 40 and max(seeds) >= 10 + 80


def test_a_discriminator_that_gives_no_numbers_chooses_nothing() -> None:
    class Broken(FreeModel):
        def discriminator(self, images: Tensor) -> Tensor:
            return images.mean((1, 2, 3))[:, None] * torch.nan

    for choose in ("sir", "drs", "mh"):
        with pytest.raises(SettingsError, match="choose: the discriminator gives no numbers"):
            made("dgflow", model=Broken(), choose=choose)


def test_without_a_discriminator_nothing_is_chosen() -> None:
    with pytest.raises(SettingsError, match="choose: SIR chooses by a discriminator, and avatars comes without one"):
        generate(GenerateSettings("", choose="sir"), Blind(), ToyPromptModel())

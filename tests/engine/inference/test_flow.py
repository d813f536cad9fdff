import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.inference import flow
from engine.inference.flow import (
    HIGHEST_MOBILITY,
    LONGEST_MOVE,
    DivergenceError,
    Evaluated,
    Particles,
    Problem,
    Role,
    Step,
    add_by_role,
    concentrated,
    normalised,
    pairwise_diversity,
    ratio_weights,
    refine,
    scheduled,
    share_of_worse,
    typical_norm,
    without_opposition,
)
from engine.inference.terms import (
    Batch,
    DataDensity,
    DistanceToStart,
    EditDirection,
    LatentPrior,
    Realism,
    References,
    Repulsion,
    Term,
    TextLikelihood,
)
from engine.latents.spaces import LatentSpace, TruncatedNormalSpace, seeded
from engine.settings import PRESETS, CodeOrder, Divergence, Estimator, FlowSettings
from tests.engine.toys import (
    FEATURES,
    LATENT,
    DoubleSpace,
    FreeSpace,
    ToyGenerator,
    ToyTower,
    numbers,
    scores_of,
    text_of,
    toy_particles,
    toy_problem,
)


def logit(images: Tensor) -> Tensor:
    return (images.flatten(1) * numbers(images[0].numel(), seed=8)).sum(1, keepdim=True)


def full_problem(**parts: Any) -> Problem:
    """A problem with every kind of term: repulsion, data, text with cutouts and contrast, realism, prior."""
    problem = toy_problem(**parts)
    tower = problem.extractor
    contrast = F.normalize(numbers(2, FEATURES, seed=4), dim=1)
    views = TextLikelihood(tower, text_of(problem), contrast=contrast, logit_scale=10.0, cutouts=2, seed=5)
    return replace(
        problem,
        conditions=(*problem.conditions, (replace(views, name="views"), 0.5)),
        data=References(F.normalize(numbers(4, FEATURES, seed=6), dim=1)),
        realism=Realism(logit),
    )


EVERYTHING = FlowSettings(
    steps=4, realism=0.3, prior=0.2, langevin=0.01, mollifier=0.1, mollifier_space="image", divergence="js"
)


def latents_of(steps: Sequence[Step]) -> list[Tensor]:
    return [step.particles.latents for step in steps]


# ---- what refine yields ----------------------------------------------------------------------------------


def test_yields_the_start_every_step_and_the_end():
    particles = toy_particles(3)
    steps = list(refine(toy_problem(), particles, FlowSettings(steps=5)))
    assert [step.step for step in steps] == [0, 1, 2, 3, 4, 5]
    assert {step.total for step in steps} == {5}
    assert torch.equal(steps[0].particles.latents, particles.latents)
    assert all(0 < step.seconds < 60 for step in steps)


def test_seconds_are_those_of_the_work(monkeypatch: pytest.MonkeyPatch):
    """On a clock that moves on by 1 whenever it is read and by 100 while the consumer has the step: from the start or
    the return to the next step it is read once more."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1
        return now

    monkeypatch.setattr(time, "perf_counter", clock)
    for step in refine(toy_problem(), toy_particles(2), FlowSettings(steps=3)):
        assert step.seconds == 1
        now += 100


def test_a_step_describes_its_own_particles():
    problem = toy_problem()
    for step in refine(problem, toy_particles(4), FlowSettings(steps=3)):
        images = problem.render(step.particles.latents)
        features = problem.extractor(images)
        torch.testing.assert_close(step.images, images)
        torch.testing.assert_close(step.features, features)
        torch.testing.assert_close(scores_of(step), features @ text_of(problem))
        pairs = torch.triu_indices(4, 4, offset=1)
        distances = 1 - F.cosine_similarity(features[pairs[0]], features[pairs[1]])
        assert step.diversity == pytest.approx(distances.mean().item())
        torch.testing.assert_close(step.log_values["text"], 10 * features @ text_of(problem))
        assert not any(t.requires_grad for t in (step.images, step.features, scores_of(step)))


@pytest.mark.parametrize("chunk", [None, 2])
def test_people_see_pictures_and_terms_look_at_drafts(chunk: int | None):
    """The moves are those of the drafts alone; pictures are drawn once, when asked for; the last scores are theirs."""
    drawn: list[int] = []

    def show(latents: Tensor) -> Tensor:
        drawn.append(len(latents))
        return 1 - toy_problem().render(latents)

    settings = FlowSettings(steps=3, chunk=chunk)
    plain = list(refine(toy_problem(), toy_particles(4), settings))
    problem = replace(toy_problem(), show=show)
    steps = refine(problem, toy_particles(4), settings)
    first = next(steps)
    assert not drawn
    torch.testing.assert_close(first.pictures, 1 - first.images)
    assert first.pictures is first.pictures and drawn == ([4] if chunk is None else [2, 2])
    rest = list(steps)
    for ours, theirs in zip([first, *rest], plain, strict=True):
        assert torch.equal(ours.particles.latents, theirs.particles.latents)
        assert torch.equal(ours.images, theirs.images) and theirs.pictures is theirs.images
    assert sum(drawn) == 8  # of the first step and of the last
    last = rest[-1]
    torch.testing.assert_close(last.features, problem.extractor(last.pictures))
    torch.testing.assert_close(rest[0].features, problem.extractor(rest[0].images))


@dataclass(frozen=True, eq=False)
class Flags(FreeSpace):
    """Latents whose first number is -1 or 1."""

    @property
    def options(self) -> Sequence[int]:
        return (0,)

    def alternatives(self, latents: Tensor, option: int) -> tuple[Tensor, Tensor]:
        both = latents.repeat(2, 1, 1)
        both[:, :, option] = torch.tensor([[-1.0], [1.0]]).to(latents)
        return both, (latents[:, option] > 0).long()


@pytest.mark.parametrize(("pull", "expected"), [(0.4, [-1, 1, 1]), (2.0, [1, 1, 1]), (-2.0, [-1, -1, -1])])
def test_a_run_ends_at_whole_values(pull: float, expected: list[int]):
    """A particle takes the other value where its condition gains more than a nat: here 2 * pull."""

    def clearly(images: Tensor) -> Tensor:
        return pull * images[:, 0].mean((1, 2))[:, None]

    space = Flags(LATENT)
    problem = Problem(
        render=lambda z: z[:, :3, None, None].expand(-1, 3, 2, 2),
        space=space, extractor=clearly, text=torch.ones(1, dtype=torch.float64),
        conditions=((Realism(clearly), 1.0),),
    )  # fmt: skip
    start = space.sample(range(3))
    start[:, 0] = torch.tensor([-0.3, 0.2, 0.9])
    settings = FlowSettings(steps=2, step_size=1e-6, diversity=0.0)
    steps = list(refine(problem, Particles(start, (0, 1, 2)), settings))
    torch.testing.assert_close(steps[1].particles.latents, start, atol=1e-4, rtol=0)
    assert steps[2].particles.latents[:, 0].tolist() == expected
    torch.testing.assert_close(steps[2].particles.latents[:, 1:], start[:, 1:], atol=1e-4, rtol=0)


def test_a_crowd_ends_at_whole_values(monkeypatch: pytest.MonkeyPatch):
    """As few particles do, whose pictures are all there."""
    problem = replace(
        toy_problem(space=Flags(LATENT)), liked=References(F.normalize(numbers(4, FEATURES, seed=6), dim=1))
    )
    whole = list(refine(problem, toy_particles(7), FlowSettings(steps=2)))[-1]
    monkeypatch.setattr(flow, "TOGETHER", 6)
    parts = list(refine(problem, toy_particles(7), FlowSettings(steps=2, chunk=3)))[-1]
    assert whole.particles.latents[:, 0].abs().tolist() == [1.0] * 7
    torch.testing.assert_close(parts.particles.latents, whole.particles.latents)


def test_scores_are_those_of_pictures_without_augmentation():
    tower = ToyTower()
    problem = toy_problem(tower=tower)
    views = TextLikelihood(tower, text_of(problem), cutouts=3)
    first = next(refine(replace(problem, conditions=((views, 1.0),)), toy_particles(4), FlowSettings()))
    torch.testing.assert_close(scores_of(first), tower(first.images) @ text_of(problem))


def test_fits_are_the_share_of_captions_that_fit_worse():
    """By hand: of four captions, two worse than the text, one equal to it and one better, at lengths of their own."""
    problem = toy_problem()
    assert next(refine(problem, toy_particles(2), FlowSettings())).fits is None
    first = next(refine(problem, toy_particles(1), FlowSettings()))
    feature = F.normalize(first.features[0], dim=0)
    captions = torch.stack([3 * feature, text_of(problem), -text_of(problem), -feature])
    fits = next(refine(replace(problem, captions=captions), toy_particles(1), FlowSettings())).fits
    assert fits is not None and fits.tolist() == [0.5]
    torch.testing.assert_close(share_of_worse(first.features, scores_of(first), captions), fits)
    assert share_of_worse(feature[None], torch.ones(1) + 1e-6, captions).tolist() == [1.0]


def test_terms_of_one_name_keep_their_values_apart():
    """Two conditions "text", with logits of 10 and of 3."""
    problem = toy_problem()
    ((text, _),) = problem.conditions
    fainter = TextLikelihood(problem.extractor, text_of(problem), logit_scale=3.0)
    problem = replace(problem, conditions=((text, 1.0), (fainter, 1.0), (fainter, 1.0)))
    first = next(refine(problem, toy_particles(3), FlowSettings(diversity=0.0)))
    assert set(first.log_values) == {"text", "text 2", "text 3"}
    torch.testing.assert_close(first.log_values["text"], 10 * scores_of(first))
    torch.testing.assert_close(first.log_values["text 2"], 3 * scores_of(first))


def test_works_under_no_grad():
    settings = FlowSettings(steps=3)
    expected = latents_of(list(refine(toy_problem(), toy_particles(3), settings)))[-1]
    with torch.no_grad():
        assert torch.equal(latents_of(list(refine(toy_problem(), toy_particles(3), settings)))[-1], expected)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_raises_the_text_score(preset: str):
    *_, last = (steps := list(refine(toy_problem(), toy_particles(6), PRESETS[preset])))
    assert scores_of(last).mean() > scores_of(steps[0]).mean() + 0.2


# ---- what a step costs -----------------------------------------------------------------------------------


def test_one_generator_forward_and_one_backward_per_step_whatever_the_terms():
    generator = ToyGenerator()
    list(refine(full_problem(generator=generator), toy_particles(5), EVERYTHING))
    assert generator.forward_sizes == [5] * (EVERYTHING.steps + 1)
    assert generator.backward_passes == EVERYTHING.steps


@pytest.mark.parametrize("chunk", [1, 2])
def test_no_more_than_a_chunk_passes_through_the_generator_at_a_time(chunk: int):
    generator = ToyGenerator()
    settings = FlowSettings(steps=1, chunk=chunk)
    list(refine(toy_problem(generator=generator), toy_particles(5), settings))
    assert max(generator.forward_sizes) == chunk
    assert sum(generator.forward_sizes) == 3 * 5  # seen, moved, seen
    assert generator.backward_passes == math.ceil(5 / chunk)


@pytest.mark.parametrize("name", [*PRESETS, "everything"])
@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_equal_the_whole(name: str, chunk: int):
    settings = EVERYTHING if name == "everything" else replace(PRESETS[name], steps=4)
    whole = list(refine(full_problem(), toy_particles(7), settings))
    chunked = list(refine(full_problem(), toy_particles(7), replace(settings, chunk=chunk)))
    torch.testing.assert_close(latents_of(chunked), latents_of(whole), rtol=1e-9, atol=1e-11)


RAW_BUT_GIVING_WAY = replace(PRESETS["paper"], steps=4, conflict_free=True, divergence="hellinger")


@pytest.mark.parametrize("name", [*PRESETS, "everything", "raw but giving way"])
def test_a_crowd_in_parts_moves_as_the_whole(name: str, monkeypatch: pytest.MonkeyPatch):
    """Where no pictures are kept: lengths at the images follow from inner products, moves from each term's own."""
    named = {"everything": EVERYTHING, "raw but giving way": RAW_BUT_GIVING_WAY}
    settings = named.get(name) or replace(PRESETS[name], steps=4)
    problem = replace(full_problem(), seen=F.normalize(numbers(2, FEATURES, seed=9), dim=1))
    whole = list(refine(problem, toy_particles(7), settings))
    monkeypatch.setattr(flow, "TOGETHER", 6)
    parts = list(refine(problem, toy_particles(7), replace(settings, chunk=3)))
    torch.testing.assert_close(latents_of(parts), latents_of(whole), rtol=1e-8, atol=1e-10)
    for one, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(one.log_values, other.log_values, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(one.features, other.features)
        torch.testing.assert_close(one.pictures, other.pictures)
        assert len(one.images) == 0
        assert torch.equal(one.picture(5), one.pictures[5:6])


def test_of_a_crowd_no_more_than_a_part_is_drawn_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flow, "TOGETHER", 6)
    generator = ToyGenerator()
    steps = list(refine(toy_problem(generator=generator), toy_particles(7), FlowSettings(steps=2, chunk=2)))
    assert max(generator.forward_sizes) == 2
    generator.forward_sizes.clear()
    steps[-1].picture(2), steps[-1].picture(3), steps[-1].picture(6)
    assert generator.forward_sizes == [2, 1]  # neighbours are drawn together


def test_a_chunk_of_all_particles_keeps_a_crowd_together(monkeypatch: pytest.MonkeyPatch):
    """As for points of the plane, which cost nothing each."""
    monkeypatch.setattr(flow, "TOGETHER", 6)
    generator = ToyGenerator()
    steps = list(refine(toy_problem(generator=generator), toy_particles(7), FlowSettings(steps=2, chunk=7)))
    assert set(generator.forward_sizes) == {7} and len(steps[0].images) == 7


def test_a_crowd_of_points_needs_no_pictures(monkeypatch: pytest.MonkeyPatch):
    problem = replace(toy_problem(), render=lambda latents: latents[:, :2], extractor=lambda points: points, text=None)
    problem = replace(problem, conditions=((Realism(lambda points: -points.square().sum(1)), 1.0),))
    whole = list(refine(problem, toy_particles(7), FlowSettings(steps=2)))
    monkeypatch.setattr(flow, "TOGETHER", 6)
    parts = list(refine(problem, toy_particles(7), FlowSettings(steps=2, chunk=3)))
    torch.testing.assert_close(latents_of(parts), latents_of(whole))


def test_settings_sent_to_a_crowd_take_effect_before_its_next_move(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flow, "TOGETHER", 6)
    still = FlowSettings(steps=1, diversity=0.0, condition_weight=0.0)
    run = refine(toy_problem(), toy_particles(7), still)
    first = next(run)
    longer = FlowSettings(steps=2, chunk=4)
    second = run.send(longer)
    expected = list(refine(toy_problem(), toy_particles(7), longer))[1]
    assert second.total == 2 and "repulsion" in second.log_values
    torch.testing.assert_close(second.particles.latents, expected.particles.latents)
    assert not torch.equal(first.particles.latents, second.particles.latents)


def test_a_crowd_whose_terms_are_no_numbers_stops_with_the_last_good_step(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flow, "TOGETHER", 6)
    passes = 0

    def breaking(latents: Tensor) -> Tensor:
        nonlocal passes
        passes += 1
        return ToyGenerator()(latents) * (math.nan if passes > 12 else 1.0)

    problem = toy_problem(generator=breaking)
    with pytest.raises(DivergenceError, match="no longer consist of numbers") as caught:
        list(refine(problem, toy_particles(7), FlowSettings(steps=9, chunk=3)))
    assert caught.value.last_good is not None and caught.value.last_good.step == 1


@pytest.mark.parametrize("chunk", [1, 3])
def test_in_single_precision_chunks_round_otherwise(chunk: int):
    """Each step rounds by about 1e-7 and stretches what there is of it a few times: after five steps of the default
    size, of a generator without kinks, less than 1e-4 of |z|. The same chunk gives the same bits."""
    problem = toy_problem(generator=ToyGenerator().float())
    text = text_of(problem).float()
    problem = replace(
        problem, text=text, conditions=((TextLikelihood(problem.extractor, text, logit_scale=10.0), 1.0),)
    )
    particles = toy_particles(7)
    particles = replace(particles, latents=particles.latents.float())

    def fifth(chunk: int | None) -> Tensor:
        return latents_of(list(refine(problem, particles, FlowSettings(steps=20, chunk=chunk))))[5]

    assert (fifth(chunk) - fifth(None)).norm(dim=1).max() < 1e-4 * math.sqrt(LATENT)
    assert torch.equal(fifth(chunk), fifth(chunk))


# ---- resuming, sending, single particles -----------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1, 3, 4])
def test_resumed_is_bit_for_bit_uninterrupted(at: int):
    """With Langevin noise, augmentations and image-space mollifier, all drawn from (seed, step)."""
    whole = list(refine(full_problem(), toy_particles(4), EVERYTHING))
    resumed = list(refine(full_problem(), whole[at].particles, EVERYTHING))
    assert len(resumed) == EVERYTHING.steps + 1 - at
    for one, other in zip(whole[at:], resumed, strict=True):
        assert torch.equal(one.particles.latents, other.particles.latents)
        assert torch.equal(one.images, other.images)


def test_send_takes_effect_before_the_next_advance():
    """Sent after step 1: step 2 is the one that a run with the new settings reaches from step 1."""
    before, after = FlowSettings(steps=4), FlowSettings(steps=4, diversity=1.0, step_size=0.2)
    run = refine(toy_problem(), toy_particles(4), before)
    next(run)
    first = next(run)
    second = run.send(after)
    fresh = refine(toy_problem(), first.particles, after)
    next(fresh)
    expected = next(fresh)
    assert torch.equal(second.particles.latents, expected.particles.latents)
    old = list(refine(toy_problem(), first.particles, before))[1]
    assert not torch.allclose(second.particles.latents, old.particles.latents)


def test_send_can_turn_repulsion_on_and_lengthen_or_end_a_run():
    settings = FlowSettings(steps=2, diversity=0.0)
    run = refine(toy_problem(), toy_particles(4), settings)
    steps = [next(run), next(run), next(run)]
    assert "repulsion" not in steps[0].log_values
    longer = run.send(replace(settings, steps=9, diversity=0.5))
    assert (longer.step, longer.total) == (3, 9)
    assert "repulsion" in longer.log_values
    with pytest.raises(StopIteration):
        run.send(replace(settings, steps=3))


def test_a_single_particle_is_not_repelled():
    settings = FlowSettings(steps=4)
    one = list(refine(toy_problem(), toy_particles(1), replace(settings, diversity=1.5)))
    none = list(refine(toy_problem(), toy_particles(1), replace(settings, diversity=0.0)))
    assert all(torch.equal(a, b) for a, b in zip(latents_of(one), latents_of(none), strict=True))
    assert all("repulsion" not in step.log_values for step in one)
    assert one[-1].diversity == 0.0


def test_two_particles_are_enough_to_repel_each_other():
    first = next(refine(toy_problem(), toy_particles(2), FlowSettings(steps=1)))
    assert "repulsion" in first.log_values


def test_identical_particles_stay_together():
    particles = toy_particles(1)
    twins = Particles(particles.latents.repeat(3, 1), (0, 0, 0))
    last = list(refine(toy_problem(), twins, FlowSettings(steps=3)))[-1]
    torch.testing.assert_close(last.particles.latents, last.particles.latents[:1].expand(3, -1))


@pytest.mark.parametrize("name", [*PRESETS, "everything"])
def test_order_of_the_particles_does_not_matter(name: str):
    settings = EVERYTHING if name == "everything" else replace(PRESETS[name], steps=3)
    particles, order = toy_particles(5), [3, 1, 4, 0, 2]
    shuffled = Particles(particles.latents[order], tuple(particles.seeds[i] for i in order))
    expected = list(refine(full_problem(), particles, settings))[-1].particles.latents[order]
    found = list(refine(full_problem(), shuffled, settings))[-1].particles.latents
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", PRESETS)
def test_data_attract(name: str):
    """By every preset, particles that follow B alone come nearer to the examples; without data or weight they stay."""
    examples = F.normalize(numbers(4, FEATURES, seed=6), dim=1)
    problem = replace(toy_problem(space=FreeSpace(LATENT)), data=References(examples))
    settings = replace(PRESETS[name], steps=10, diversity=0.0, condition_weight=0.0)

    def distance(step: Step) -> float:
        return (step.features[:, None] - examples[None]).norm(dim=2).amin(1).mean().item()

    steps = list(refine(problem, toy_particles(5), settings))
    assert distance(steps[-1]) < {"paper": 0.95}.get(name, 0.8) * distance(steps[0])  # h = 1 hardly tells who is near
    if not name.endswith("smoothed"):  # whose kernel is another one at every step
        assert steps[-1].log_values["data"].mean() > steps[0].log_values["data"].mean()
    for still, weight in ((replace(problem, data=None), 1.0), (problem, 0.0)):
        *_, last = refine(still, toy_particles(5), replace(settings, data_weight=weight))
        assert torch.equal(last.particles.latents, steps[0].particles.latents)
        assert "data" not in last.log_values


def test_without_terms_nothing_moves():
    still = FlowSettings(steps=2, diversity=0.0, condition_weight=0.0)
    steps = list(refine(toy_problem(space=FreeSpace(LATENT)), toy_particles(3), still))
    assert torch.equal(steps[-1].particles.latents, steps[0].particles.latents)


# ---- problems on a line ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Normal:
    """log N(0, deviation^2) of the first pixels, as many as latents have coordinates."""

    deviation: float = 1.0
    name: str = "normal"

    def log_value(self, batch: Batch) -> Tensor:
        z = batch.images.flatten(1)[:, : batch.latents.shape[1]]
        return -0.5 * (z / self.deviation).square().sum(1)


def line_problem(condition: Term | None = None, *, dim: int = 1, space: LatentSpace | None = None) -> Problem:
    """The latents themselves are the first pixels and the features."""

    def draw(z: Tensor) -> Tensor:
        return F.pad(z, (0, 3 * dim - z.shape[1])).view(-1, 3, 1, dim)

    def position(images: Tensor) -> Tensor:
        return images.flatten(1)[:, :dim]

    conditions = () if condition is None else ((condition, 1.0),)
    return Problem(draw, space or FreeSpace(dim), position, text=torch.ones(dim).double(), conditions=conditions)


# ---- the equation ----------------------------------------------------------------------------------------


def test_paper_preset_is_equation_6_written_out():
    """z - l1 grad A + l2 grad B + l3 grad C with three separate backward passes from end to end.

    A: log sum_j alpha_j k(f_i, f_j), alpha = (K + eta I)^-1 1, k(a, b) = exp(-|a - b|^2), a and b constants.
    """
    settings = replace(PRESETS["paper"], mollifier=0.0, steps=1, diversity=0.7, data_weight=0.3, condition_weight=0.2)
    references = F.normalize(numbers(4, FEATURES, seed=6), dim=1)
    problem = replace(toy_problem(), data=References(references))
    particles = toy_particles(5)

    def log_q(f: Tensor, anchors: Tensor) -> Tensor:
        among = (-(anchors[:, None] - anchors[None]).square().sum(2)).exp()
        alpha = torch.linalg.inv(among + 0.1 * torch.eye(len(anchors))) @ torch.ones(len(anchors)).double()
        return ((-(f[:, None] - anchors[None]).square().sum(2)).exp() @ alpha).log()

    def gradient(log_value: str) -> Tensor:
        z = particles.latents.clone().requires_grad_()
        f = problem.extractor(problem.render(z))
        values = {"A": log_q(f, f.detach()), "B": log_q(f, references), "C": 10 * f @ text_of(problem)}
        return torch.autograd.grad(values[log_value].sum(), z)[0]

    drift = -0.7 * gradient("A") + 0.3 * gradient("B") + 0.2 * gradient("C")
    moved = list(refine(problem, particles, settings))[-1].particles.latents
    torch.testing.assert_close(moved, particles.latents + settings.step_size * drift)


def test_paper_preset_averages_the_kernel_over_noisy_images():
    """Eq. 3 by the samples the mollifier draws: k_psi(x_i, x_j) = mean_s exp(-|d(x_i) - d(x_j + e_s)|^2)."""
    settings = replace(PRESETS["paper"], steps=1, condition_weight=0.0, mollifier_samples=3)
    problem, particles = replace(toy_problem(), seed=4), toy_particles(4)
    noise = torch.randn((3, 3, 4, 4), generator=seeded("mollifier", 4, 0))
    z = particles.latents.clone().requires_grad_()
    images = problem.render(z)
    anchors = torch.stack([problem.extractor(images.detach() + settings.mollifier * e.double()) for e in noise])
    kernel = (-(problem.extractor(images)[None, :, None] - anchors[:, None]).square().sum(3)).exp().mean(0)
    alpha = torch.linalg.inv(kernel.detach() + 0.1 * torch.eye(4)) @ torch.ones(4).double()
    (gradient,) = torch.autograd.grad((kernel @ alpha).log().sum(), z)
    moved = list(refine(problem, particles, settings))[-1].particles.latents
    torch.testing.assert_close(moved, particles.latents - settings.step_size * gradient)


def test_a_normalised_step_is_step_size_times_the_scale_long():
    """One term: the median particle moves step_size * sqrt(dim), whatever the term's own scale."""
    for scale in (1e-3, 1.0, 1e3):
        settings = FlowSettings(steps=1, step_size=0.03, diversity=0.0)
        problem = toy_problem(space=FreeSpace(LATENT))
        term = TextLikelihood(problem.extractor, text_of(problem), logit_scale=scale)
        start, end = refine(replace(problem, conditions=((term, 1.0),)), toy_particles(7), settings)
        moves = (end.particles.latents - start.particles.latents).norm(dim=1)
        assert moves.median().item() == pytest.approx(0.03 * math.sqrt(LATENT))


@dataclass(frozen=True)
class Saturating:
    """log sigmoid(steepness x): the gradient steepness / (1 + e^(steepness x)) vanishes where x is large."""

    steepness: float = 40.0
    name: str = "saturating"

    def log_value(self, batch: Batch) -> Tensor:
        return F.logsigmoid(self.steepness * batch.images.flatten(1)[:, 0])


@pytest.mark.parametrize(("satisfied", "pace", "rest"), [(0.05, LONGEST_MOVE, 1.0), (0.5, 1.0, 0.0), (40.0, 1.0, 0.0)])
def test_no_particle_flies_away_where_the_others_are_satisfied(satisfied: float, pace: float, rest: float):
    """Four of five particles at `satisfied`, the fifth at 0, where the gradient is 20. At .05 theirs is 40 / (1 + e^2),
    4.8, at .5 4 / 10^8, at 40 none in float64. At first they are the typical ones and the fifth goes as many times as
    far as its gradient is longer, 4.19, but no further than LONGEST_MOVE; later they rest and the fifth is."""
    start = torch.tensor([[satisfied]] * 4 + [[0.0]]).double()
    settings = FlowSettings(steps=1, step_size=0.05, diversity=0.0)
    _, end = refine(line_problem(Saturating()), Particles(start, tuple(range(5))), settings)
    expected = 0.05 * torch.tensor([[rest]] * 4 + [[pace]]).double()
    torch.testing.assert_close(end.particles.latents - start, expected, rtol=1e-6, atol=1e-8)


def test_a_typical_gradient_is_the_median_of_those_that_are_not_flat():
    gradient = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 7.0], [0.0, 0.0069], [0.0, 0.0]]).double()
    assert typical_norm(gradient).item() == 5.0  # of 5, 1 and 7
    assert typical_norm(gradient[1:3]).item() == 4.0
    assert typical_norm(torch.zeros(3, 2)).item() == pytest.approx(1e-18)


def test_gradients_are_shortened_without_turning():
    """Lengths 1, 2, 3, 20: the median 2.5 is the unit; 8 units become LONGEST_MOVE, the others stay."""
    gradient = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [12.0, 16.0]]).double()
    expected = gradient / 2.5
    expected[3] *= LONGEST_MOVE / 8
    torch.testing.assert_close(normalised(gradient), expected)
    assert not normalised(torch.zeros(3, 2)).any()


def test_normalised_terms_add_up_by_their_weights():
    """C twice, relative weights 1 and -.25, condition weight 2: 1.5 times the length of one term's step."""
    settings = FlowSettings(steps=1, step_size=0.02, diversity=0.0, condition_weight=2.0)
    problem = toy_problem(space=FreeSpace(LATENT))
    ((text, _),) = problem.conditions
    louder = TextLikelihood(problem.extractor, text_of(problem), logit_scale=77.0)
    problem = replace(problem, conditions=((text, 1.0), (louder, -0.25)))
    start, end = refine(problem, toy_particles(7), settings)
    moves = (end.particles.latents - start.particles.latents).norm(dim=1)
    assert moves.median().item() == pytest.approx(1.5 * 0.02 * math.sqrt(LATENT))


def test_a_normalised_prior_pulls_in_proportion_to_the_distance():
    """z - step_size * scale * prior * z / scale."""
    settings = FlowSettings(steps=1, step_size=0.1, diversity=0.0, condition_weight=0.0, prior=0.5)
    start, end = refine(toy_problem(space=FreeSpace(LATENT)), toy_particles(3), settings)
    torch.testing.assert_close(end.particles.latents, 0.95 * start.particles.latents)


def test_schedules_fall_to_zero_at_the_end():
    assert [scheduled(2.0, "linear", step, 4) for step in range(5)] == [2.0, 1.5, 1.0, 0.5, 0.0]
    assert {scheduled(2.0, "constant", step, 4) for step in range(5)} == {2.0}
    settings = FlowSettings(steps=4, diversity=0.0, step_size=0.04, step_schedule="linear")
    steps = latents_of(list(refine(toy_problem(space=FreeSpace(LATENT)), toy_particles(1), settings)))
    lengths = [(b - a).norm().item() / math.sqrt(LATENT) for a, b in zip(steps, steps[1:], strict=False)]
    assert lengths == pytest.approx([0.04, 0.03, 0.02, 0.01])


def test_the_mollifier_falls_to_zero_at_the_end():
    """A at step k is that of a mollifier of (1 - k / steps) s0."""
    problem = toy_problem()
    for step in refine(problem, toy_particles(5), FlowSettings(steps=4, mollifier=0.8)):
        width = 0.8 * (1 - step.step / 4)
        batch = Batch(step.particles.latents, step.images, step=step.step)
        expected = Repulsion(problem.extractor, mollifier=width).log_value(batch)
        torch.testing.assert_close(step.log_values["repulsion"], expected.detach())


def test_a_discriminator_pulls_towards_what_it_takes_for_real():
    """Realism is the only condition: the logit rises at every small step."""
    problem = replace(toy_problem(space=FreeSpace(LATENT)), realism=Realism(logit), conditions=())
    settings = FlowSettings(steps=5, step_size=0.02, diversity=0.0, realism=1.0)
    values = [step.log_values["realism"] for step in refine(problem, toy_particles(4), settings)]
    assert all((later > earlier).all() for earlier, later in zip(values, values[1:], strict=False))


# ---- parts that settle in turn ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class InTurns(FreeSpace):
    """Six coordinates, a third of them in each of three turns."""

    def moving(self, turn: int, turns: int, order: CodeOrder) -> Tensor:
        return torch.arange(LATENT) // 2 == turn

    def waiting(self, turn: int, turns: int, order: CodeOrder) -> Tensor:
        return torch.arange(LATENT) // 2 > turn


def test_the_second_stage_begins_with_the_first_turn():
    """Of six steps the last three are turns; spaces whose latents all move together have one stage."""
    settings = FlowSettings(steps=6, detail_steps=3, diversity=0.0)
    stages = [step.stage for step in refine(toy_problem(space=InTurns(LATENT)), toy_particles(2), settings)]
    assert stages == [1, 1, 1, 2, 2, 2, 2]
    assert {step.stage for step in refine(toy_problem(), toy_particles(2), settings)} == {1}


def test_parts_move_equally_far_in_their_turns():
    """Along a slope, whose gradient is everywhere 1: in its turn each part moves as far as at the turns' begin."""
    problem = replace(toy_problem(space=InTurns(LATENT)), conditions=((LatentSlope(), 1.0),))
    settings = FlowSettings(steps=6, detail_steps=3, step_size=0.1, diversity=0.0, normalise=False, constrain=False)
    steps = latents_of(list(refine(problem, toy_particles(2), settings)))
    for turn in range(3):
        moves = steps[turn + 4] - steps[turn + 3]
        waiting = 0.1 * (1 - (turn + 3) / 6)
        expected = [0.0] * (2 * turn) + [0.05] * 2 + [waiting] * (4 - 2 * turn)
        torch.testing.assert_close(moves, torch.tensor(expected).double().expand(2, -1))


def test_the_move_of_a_part_is_as_long_as_in_the_whole():
    """Two particles that move 5 in four coordinates, and under the mask, two of these, .1 and .3: typically .2. Half
    of the coordinates typically have half of the square of 5, so that .2 becomes sqrt(1/2) 5, .1 half of that. What
    is not under the mask stays."""
    move = torch.tensor([[0.1, 0.0, 5.0, 0.0], [0.0, 0.3, 0.0, 5.0]]).double()
    move[:, 2:] *= (25 - move[:, :2].square().sum(1, keepdim=True)).sqrt() / 5
    mask = torch.tensor([True, True, False, False])
    found = concentrated(move, mask)
    typical = 5 * math.sqrt(0.5)
    torch.testing.assert_close(found[:, :2], typical * torch.tensor([[0.5, 0.0], [0.0, 1.5]]).double())
    assert torch.equal(found[:, 2:], move[:, 2:])


def test_a_normalised_turn_moves_its_part_as_far_as_the_whole_moves(monkeypatch: pytest.MonkeyPatch):
    """Two of six coordinates, moved by sqrt(2/6) of the step size times the scale in the median."""
    monkeypatch.setattr(flow, "TURN_LENGTHS", (1.0,))
    settings = FlowSettings(steps=3, detail_steps=3, step_size=0.1, diversity=0.0)
    start, end, *_ = refine(toy_problem(space=InTurns(LATENT)), toy_particles(5), settings)
    moves = (end.particles.latents - start.particles.latents)[:, :2].norm(dim=1)
    assert moves.median().item() == pytest.approx(math.sqrt(2 / 6) * 0.1 * math.sqrt(LATENT))


def test_a_turn_ends_where_the_condition_is_likeliest(monkeypatch: pytest.MonkeyPatch):
    """Of the ends that each length alone leads to, every particle takes the one of highest C; repulsion and prior,
    both in force here, do not count. They would choose otherwise for some."""
    problem = replace(toy_problem(space=InTurns(LATENT)), realism=Realism(logit))
    settings = FlowSettings(steps=3, detail_steps=3, step_size=0.05, realism=0.2, prior=0.5, diversity=0.6)
    particles = toy_particles(12)

    def second(lengths: tuple[float, ...]) -> Step:
        monkeypatch.setattr(flow, "TURN_LENGTHS", lengths)
        run = refine(problem, particles, settings)
        next(run)
        return next(run)

    lengths = flow.TURN_LENGTHS
    ends = [second((length,)) for length in lengths]
    latents = torch.stack([end.particles.latents for end in ends])

    def best(merit: list[Tensor]) -> Tensor:
        return latents[torch.stack(merit).argmax(0), torch.arange(12)]

    condition = [end.log_values["text"] + 0.2 * end.log_values["realism"] for end in ends]
    rest = [-3.0 * end.log_values["repulsion"] + 0.5 * end.log_values["prior"] for end in ends]
    chosen = second(lengths).particles.latents
    assert torch.equal(chosen, best(condition))
    assert not torch.equal(chosen, best([one + other for one, other in zip(condition, rest, strict=True)]))
    assert not torch.equal(chosen, best([-one for one in condition]))


def test_of_equal_ends_a_particle_takes_the_first():
    candidates = [torch.full((3, 2), float(k)) for k in range(3)]
    merits = {0: [1.0, 1.0, 0.0], 1: [1.0, 2.0, 0.0], 2: [0.5, 2.0, 0.0]}
    found = flow._likeliest(candidates, lambda latents: torch.tensor(merits[int(latents[0, 0])]))
    assert found[:, 0].tolist() == [0.0, 1.0, 0.0]


# ---- repulsion that gives way ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_conflict_free_repulsion_never_opposes_the_condition(seed: int):
    move, condition = numbers(9, 3, 4, 4, seed=seed), numbers(9, 3, 4, 4, seed=100 + seed)
    freed = without_opposition(move, condition)
    before, after = (move * condition).sum((1, 2, 3)), (freed * condition).sum((1, 2, 3))
    assert (after >= -1e-12).all()
    torch.testing.assert_close(after, before.clamp_min(0), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(freed[before >= 0], move[before >= 0], atol=0, rtol=0)
    assert (freed.flatten(1).norm(dim=1) <= move.flatten(1).norm(dim=1) + 1e-12).all()


def test_without_a_condition_repulsion_is_left_alone():
    move = numbers(4, 3, 4, 4)
    assert torch.equal(without_opposition(move, torch.zeros_like(move)), move)


@pytest.mark.parametrize("kept", [0.0, 0.3, 1.0])
def test_a_share_of_the_opposition_can_be_kept(kept: float):
    """Against (0, 2) a move (3, -4) has the component (0, -4): `kept` of it stays; (3, 4) does not oppose."""
    move, condition = torch.tensor([[3.0, -4.0], [3.0, 4.0]]), torch.tensor([[0.0, 2.0], [0.0, 2.0]])
    expected = torch.tensor([[3.0, -4.0 * kept], [3.0, 4.0]])
    torch.testing.assert_close(without_opposition(move, condition, kept=kept), expected)


def stationary_deviation(**changes: Any) -> float:
    """Root mean square of 8 particles after 400 small steps of Eq. 6 towards log N(0, 1), KDE with h = .2."""
    settings = replace(
        PRESETS["paper"], estimator="kde", bandwidth=0.2, mollifier=0.0, steps=400, step_size=0.05, **changes
    )
    problem = line_problem(Normal())
    *_, last = refine(problem, Particles(2 * numbers(8, 1), tuple(range(8))), settings)
    return last.particles.latents.square().mean().sqrt().item()


def test_what_giving_way_does_to_the_target():
    """Eq. 6 is stationary where particles' pushes balance the condition's pull: .78 by an audit of the same problem
    in other code. Conflict-free all net moves point to the mode: x <- (1 - step) x at least, .95^400 = 1e-9. Of
    opposition kept by half the pull is balanced by half the push, as at twice the temperature of the condition."""
    assert stationary_deviation() == pytest.approx(0.78, abs=0.005)
    assert stationary_deviation(conflict_free=True) < 0.01
    assert 0.4 < stationary_deviation(conflict_free=True, kept_opposition=0.5) < 0.6


def test_a_condition_through_pictures_and_one_on_latents_add_up():
    """One raw step along the end-to-end gradient of the text's log-likelihood - |z - start|^2 / 2."""
    problem, particles = toy_problem(space=FreeSpace(LATENT)), toy_particles(4)
    start = numbers(4, LATENT, seed=6)
    problem = replace(problem, conditions=(*problem.conditions, (DistanceToStart(start), 1.0)))
    z = particles.latents.clone().requires_grad_()
    value = 10 * problem.extractor(problem.render(z)) @ text_of(problem) - 0.5 * (z - start).square().sum(1)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    for conflict_free in (True, False):
        settings = replace(PRESETS["paper"], steps=1, diversity=0.0, conflict_free=conflict_free)
        _, end = refine(problem, particles, settings)
        torch.testing.assert_close(end.particles.latents, particles.latents + settings.step_size * gradient)


def test_repulsion_gives_way_to_all_of_the_condition():
    """Conditions through the pictures and on the latents themselves: no step gains less of the edit direction, the
    text and the pull to the start together than without repulsion. In two of these the image part alone is no guide."""
    problem = toy_problem(space=FreeSpace(LATENT))
    particles = Particles(0.3 * numbers(8, LATENT, seed=2) + numbers(LATENT, seed=3), tuple(range(8)))
    direction = 10 * F.normalize(numbers(LATENT, seed=5), dim=0)
    conditions = (
        (EditDirection(direction), 1.0),
        (DistanceToStart(particles.latents + numbers(8, LATENT, seed=6)), 0.5),
    )
    problem = replace(problem, conditions=(*problem.conditions, *conditions))

    def move(**changes: Any) -> Tensor:
        settings = FlowSettings(steps=1, step_size=0.01, diversity_gain=6.0, **changes)
        start, end = refine(problem, particles, settings)
        return end.particles.latents - start.particles.latents

    condition = move(diversity=0.0)
    pushes = move(diversity=1.0) - condition
    assert ((pushes * condition).sum(1) >= -1e-12).all()
    assert ((move(diversity=1.0, conflict_free=False) - condition) * condition).sum(1).min() < -1e-3


def test_giving_way_is_no_other_normalisation():
    """With all opposition kept nothing is removed: the same path as of repulsion that does not give way."""
    kept = replace(FlowSettings(steps=4), conflict_free=True, kept_opposition=1.0)
    plain = replace(kept, conflict_free=False)
    one, other = (latents_of(list(refine(full_problem(), toy_particles(5), how))) for how in (kept, plain))
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def evaluated(role: Role, weight: float, log_value: Tensor | None = None) -> Evaluated:
    value = torch.zeros(2) if log_value is None else log_value
    return Evaluated(role, LatentPrior(DoubleSpace(2)), weight, "diversity", value)


def test_terms_of_one_role_are_added_with_their_weights():
    """Conditions (1, 0) and 2 (0, .5) sum to (1, 1), a repulsion of weight -1 turns (-1, 3) into (1, -3)."""
    terms = [evaluated("A", -1.0), evaluated("C", 1.0), evaluated("C", 2.0), evaluated("B", 1.0)]
    gradients = [torch.tensor([g]) for g in ([-1.0, 3.0], [1.0, 0.0], [0.0, 0.5], [10.0, 10.0])]
    sums = add_by_role(terms, gradients)
    assert {role: move.tolist() for role, move in sums.items()} == {
        "A": [[1.0, -3.0]],
        "C": [[1.0, 1.0]],
        "B": [[10.0, 10.0]],
    }


@pytest.mark.parametrize("name", ["robust", "kde", "stein"])
def test_a_conflict_free_step_never_loses_likelihood_to_first_order(name: str):
    """Through a generator that turns and stretches, a step's product with the latent gradient of C is at least
    that of the condition alone: repulsion gives way at the latents, not at the images."""
    pixels = 48
    matrix = numbers(pixels, pixels, seed=1)
    problem = toy_problem(generator=lambda z: (z @ matrix).view(-1, 3, 4, 4), space=FreeSpace(pixels))
    particles = Particles(numbers(8, pixels, seed=2), tuple(range(8)))
    z = particles.latents.clone().requires_grad_()
    (by_latents,) = torch.autograd.grad((problem.extractor(problem.render(z)) @ text_of(problem)).sum(), z)

    def gain(settings: FlowSettings) -> Tensor:
        start, end = refine(problem, particles, settings)
        return ((end.particles.latents - start.particles.latents) * by_latents).sum(1)

    settings = replace(PRESETS[name], steps=1, diversity=1.0, normalise=False, conflict_free=True)
    condition_alone = gain(replace(settings, diversity=0.0))
    assert (gain(settings) >= condition_alone - 1e-12).all()
    assert (gain(replace(settings, conflict_free=False)) < condition_alone).any()


# ---- f-divergences and noise -----------------------------------------------------------------------------


def test_ratio_weights_of_each_divergence():
    """log r = B + C - A, whatever the weights: (0, log 2, log 8), centred on its median log 2, so r = 1/2, 1, 4."""
    log_r = torch.tensor([0.0, math.log(2), math.log(8)]).double()
    terms = [
        evaluated("A", -0.3, -0.25 * log_r),
        evaluated("B", 0.1, 0.25 * log_r),
        evaluated("C", 7.0, 0.25 * log_r),
        evaluated("C", -2.0, -0.25 * log_r),  # a condition to move away from
        evaluated("prior", 1.0, 50 * numbers(3)),
    ]
    r = torch.tensor([0.5, 1.0, 4.0]).double()
    like = numbers(3, 2)
    expected: dict[Divergence, Tensor] = {"reverse_kl": r, "js": r / (2 * (1 + r)), "hellinger": r.sqrt() / 2}
    for divergence, rho in expected.items():
        weights = ratio_weights(terms, divergence, like=like)
        torch.testing.assert_close(weights[:, 0], rho / rho.mean())
    assert ratio_weights(terms, "kl", like=like) == 1


def test_the_divergence_weighs_all_but_the_prior():
    """A move is rho (l3 grad C - l1 grad A) + prior grad log p(z), r = e^(C - A) from the values of the step."""
    settings = replace(PRESETS["paper"], steps=1, step_size=0.1, mollifier=0.0, diversity=0.7, condition_weight=0.5)
    problem, particles = toy_problem(space=FreeSpace(LATENT)), toy_particles(5)

    def moved(**changes: Any) -> tuple[Step, Tensor]:
        start, end = refine(problem, particles, replace(settings, **changes))
        return start, end.particles.latents - start.particles.latents

    start, plain = moved()
    r = (start.log_values["text"] - start.log_values["repulsion"]).exp()
    rho = r / (r / r.quantile(0.5) + 1)  # Jensen-Shannon; factors common to all go
    rho = (rho / rho.mean()).clamp(0.1, 10)
    expected = rho[:, None] * plain - 0.1 * 0.4 * particles.latents
    torch.testing.assert_close(moved(divergence="js", prior=0.4)[1], expected)
    assert (rho - 1).abs().max() > 0.05


def test_ratio_weights_are_clipped():
    terms = [evaluated("C", 1.0, torch.tensor([0.0, 0.0, 500.0] + [0.0] * 20))]
    weights = ratio_weights(terms, "reverse_kl", like=torch.zeros(23, 1))
    assert (weights.min().item(), weights.max().item()) == pytest.approx((0.1, 10.0))


def test_langevin_dynamics_samples_the_latent_prior():
    """With the prior alone, z becomes (1 - e) z + sqrt(2 e) noise: stationary variance 1 / (1 - e / 2)."""
    settings = replace(
        PRESETS["paper"],
        steps=300,
        step_size=0.1,
        diversity=0.0,
        condition_weight=0.0,
        prior=1.0,
        langevin=1.0,
    )
    start = Particles(torch.zeros(64, LATENT).double(), tuple(range(64)))
    problem = toy_problem(space=FreeSpace(LATENT))
    tail = [step.particles.latents for step in refine(problem, start, settings) if step.step > 50]
    # 250 correlated steps of 384 numbers, worth about 5,000 independent ones: standard error 2 %.
    assert torch.stack(tail).var().item() == pytest.approx(1 / (1 - 0.05), rel=0.06)


def test_langevin_noise_of_a_particle_depends_on_its_seed_only():
    settings = FlowSettings(steps=2, diversity=0.0, condition_weight=0.0, langevin=0.5)
    together = list(refine(toy_problem(), toy_particles(3), settings))[-1].particles.latents
    alone = list(refine(toy_problem(), toy_particles(1, first_seed=2), settings))[-1].particles.latents
    assert torch.equal(together[2:], alone)


def stationary_variance(problem: Problem, start: float, **changes: Any) -> float:
    """Of 24 particles in 10 dimensions under normalised Langevin dynamics, with 240 more than a step's to forget."""
    settings = FlowSettings(step_schedule="constant", diversity=0.0, **{"steps": 400, "langevin": 1.0, **changes})
    particles = Particles(start * numbers(24, 10), tuple(range(24)))
    tail = [step.particles.latents for step in refine(problem, particles, settings) if step.step > settings.steps // 4]
    return torch.stack(tail).var().item()


@pytest.mark.parametrize(("deviation", "temperature"), [(1.0, 1.0), (0.5, 1.0), (2.0, 1.0), (1.0, 0.25)])
def test_normalised_noise_has_the_conditions_temperature(deviation: float, temperature: float):
    """exp(C / T) of C = log N(0, s^2 I) has the variance T s^2. There gradients are sqrt(10 T) / s long, so that a
    normalised step e is one of e' = e / (s sqrt(T)) time constants, which makes the variance 1 / (1 - e' / 2) times
    that."""
    step = 0.1 * deviation * math.sqrt(temperature)
    problem = line_problem(Normal(deviation), dim=10)
    found = stationary_variance(problem, 0.6, step_size=step, langevin=temperature)
    # 240 numbers over 300 steps of .1 time constants, worth 3,600 samples: 2.4 %, and three of these.
    assert found == pytest.approx(temperature * deviation**2 / 0.95, rel=0.08)


def test_normalised_noise_has_the_temperature_of_several_conditions_together():
    """exp(2 C + C) of C = log N(0, I) has the variance 1 / 3, whatever the gradients were divided by."""
    problem = line_problem(dim=10)
    problem = replace(problem, conditions=((Normal(), 2.0), (Normal(), 1.0)))
    found = stationary_variance(problem, 0.6, step_size=0.1 / 3 / math.sqrt(3))  # .1 time constants: as above
    assert found == pytest.approx(1 / 3 / 0.95, rel=0.08)


@dataclass(frozen=True, eq=False)
class Tall(FreeSpace):
    """A space whose scale is another than its prior's."""

    @property
    def scale(self) -> float:
        return 7.0


@pytest.mark.parametrize("space", [FreeSpace(10), Tall(10)])
def test_normalised_noise_has_the_priors_temperature(space: LatentSpace):
    """A normal prior: T / (1 - step / 2). The scale of the space does not enter."""
    found = stationary_variance(line_problem(dim=10, space=space), 0.6, prior=1.0, step_size=0.1)
    assert found == pytest.approx(1 / 0.95, rel=0.08)


def test_normalised_noise_samples_the_truncated_normal():
    """N(0, 1) within [-2, 2] has the variance .774. What would leave is clamped: of steps of standard deviation
    d = sqrt(2 step) = .14 the bound gathers what was within about .6 d of it, 2 * .09 * .057 = 1 %, at a square of 4
    instead of 3.8."""
    problem = line_problem(dim=10, space=TruncatedNormalSpace(10))
    found = stationary_variance(problem, 0.6, prior=1.0, step_size=0.01, steps=1000)
    # 240 numbers over 750 steps of .01 time constants, worth 900 samples: 4.7 %, and two of these.
    assert found == pytest.approx(0.774, rel=0.1)


def test_noise_where_a_condition_is_flat_is_bounded():
    """Its temperature would have no bounds: noise is that of HIGHEST_MOBILITY."""
    settings = FlowSettings(steps=1, step_size=0.02, step_schedule="constant", diversity=0.0, langevin=0.25)
    start = Particles(torch.ones(400, 1).double(), tuple(range(400)))
    _, end = refine(line_problem(Normal(1e6)), start, settings)
    assert end.particles.latents.std().item() == pytest.approx(math.sqrt(2 * 0.02 * 0.25 * HIGHEST_MOBILITY), rel=0.15)


def test_noise_counts_in_the_latents_own_units():
    """Each coordinate moves by sqrt(2 step_size langevin)."""
    settings = FlowSettings(steps=1, step_size=0.02, diversity=0.0, condition_weight=0.0, langevin=0.25)
    particles = Particles(torch.zeros(400, LATENT).double(), tuple(range(400)))
    _, end = refine(toy_problem(space=FreeSpace(LATENT)), particles, settings)
    assert end.particles.latents.std().item() == pytest.approx(0.1, rel=0.05)  # 2,400 numbers: 1.4 %


# ---- what goes wrong -------------------------------------------------------------------------------------


@dataclass
class BreaksAt:
    """A generator whose pictures are NaN from its k-th call on."""

    call: int
    inner: ToyGenerator
    calls: int = 0

    def __call__(self, latents: Tensor) -> Tensor:
        self.calls += 1
        images = self.inner(latents)
        return images * float("nan") if self.calls > self.call else images


def test_broken_pictures_stop_the_run_with_the_last_good_step():
    problem = replace(toy_problem(), render=BreaksAt(3, ToyGenerator()))
    run = refine(problem, toy_particles(3), FlowSettings(steps=9, step_size=0.5))
    seen = [next(run) for _ in range(3)]
    with pytest.raises(DivergenceError, match=r"Lower the step size \(now 0.5\)") as caught:
        next(run)
    assert caught.value.last_good is seen[-1]
    assert caught.value.setting == "step_size"


def test_a_model_that_never_worked_leaves_no_step():
    problem = replace(toy_problem(), render=BreaksAt(0, ToyGenerator()))
    with pytest.raises(DivergenceError) as caught:
        next(refine(problem, toy_particles(2), FlowSettings()))
    assert caught.value.last_good is None


@dataclass(frozen=True)
class BrokenTerm:
    """A term that has a value, but at some particle no gradient: sqrt at 0."""

    name: str = "broken"

    def log_value(self, batch: Batch) -> Tensor:
        zero = (batch.images * 0).flatten(1).sum(1)
        return zero.square().sqrt()


@pytest.mark.parametrize(
    ("parts", "setting", "words"),
    [
        ({"data": References(numbers(3, FEATURES))}, "data_weight", "Lower the data weight"),
        ({"conditions": ((BrokenTerm(), 1.0),)}, "condition_weight", "Lower the condition weight"),
        ({"realism": BrokenTerm()}, "realism", "Lower the realism"),
    ],
)
def test_a_broken_term_names_its_own_slider(
    parts: dict[str, Any], setting: str, words: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(DataDensity, "log_value", BrokenTerm.log_value)
    problem = replace(toy_problem(), **parts)
    run = refine(problem, toy_particles(3), FlowSettings(realism=0.5))
    first = next(run)
    with pytest.raises(DivergenceError, match=words) as caught:
        next(run)
    assert caught.value.setting == setting
    assert caught.value.last_good is first


@dataclass(frozen=True)
class Endless:
    """A log-density that is not finite, though its gradient is."""

    name: str = "endless"

    def log_value(self, batch: Batch) -> Tensor:
        return batch.images.flatten(1).sum(1) + math.inf


def test_a_log_density_that_is_no_number_stops_the_run():
    problem = replace(toy_problem(), conditions=((Endless(), 1.0),))
    with pytest.raises(DivergenceError, match="The log-density of 'endless'") as caught:
        next(refine(problem, toy_particles(2), FlowSettings()))
    assert caught.value.setting == "condition_weight"


def test_particles_that_run_away_stop_the_run():
    settings = replace(PRESETS["paper"], step_size=1.0, condition_weight=1000.0)
    problem = replace(toy_problem(space=FreeSpace(LATENT)), conditions=((LatentSlope(), 1.0),))
    with pytest.raises(DivergenceError, match="ran away. Lower the step size"):
        list(refine(problem, toy_particles(3), settings))


@dataclass(frozen=True)
class LatentSlope:
    """A density that rises for ever."""

    name: str = "slope"

    def log_value(self, batch: Batch) -> Tensor:
        return batch.latents.sum(1)


# ---- the point of it all ---------------------------------------------------------------------------------


MODES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]).double()


@dataclass(frozen=True)
class Mixture:
    """log p(c | x): four Gaussians of width .3 around the origin, of which the first weighs a little more."""

    name: str = "mixture"

    def log_value(self, batch: Batch) -> Tensor:
        squares = (batch.images.flatten(1)[:, None, :2] - MODES).square().sum(2)
        return (-squares / (2 * 0.3**2) + torch.tensor([0.5, 0.0, 0.0, 0.0])).logsumexp(1)


def modes_reached(settings: FlowSettings) -> float:
    """Modes with a particle within one width, mean over four clouds of eight that start in one place."""

    def draw(z: Tensor) -> Tensor:
        return F.pad(z, (0, 1)).view(-1, 3, 1, 1)

    def position(images: Tensor) -> Tensor:
        return images.flatten(1)[:, :2]

    problem = Problem(draw, FreeSpace(2), position, text=MODES[0], conditions=((Mixture(), 1.0),))
    found = 0
    for seed in range(3, 7):
        start = torch.tensor([0.1, 0.0]) + 0.05 * numbers(8, 2, seed=seed)
        *_, last = refine(problem, Particles(start, tuple(range(8))), settings)
        found += int((torch.cdist(last.particles.latents, MODES) < 0.3).any(0).sum())
    return found / 4


def test_without_repulsion_the_particles_collapse_on_one_mode():
    assert modes_reached(FlowSettings(steps=80, step_size=0.08, diversity=0.0)) <= 1.25


@pytest.mark.parametrize("estimator", ["krr", "kde", "stein"])
@pytest.mark.parametrize(("conflict_free", "diversity"), [(False, 0.7), (True, 1.0)])
def test_repulsion_spreads_them_over_the_modes(estimator: Estimator, conflict_free: bool, diversity: float):
    preset = PRESETS["stein" if estimator == "stein" else "robust"]
    gain = 6.0 if conflict_free else 1.0  # repulsion that does not give way has to be weak
    settings = replace(preset, estimator=estimator, steps=80, step_size=0.08, diversity_gain=gain)
    assert modes_reached(replace(settings, conflict_free=conflict_free, diversity=diversity)) > 2.25


def test_diversity_of_known_features():
    """Pairs of (e1, e1, e2): cosines 1, 0, 0."""
    assert pairwise_diversity(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])) == pytest.approx(2 / 3)
    assert pairwise_diversity(torch.tensor([[1.0, 0.0], [3.0, 4.0]])) == pytest.approx(0.4)  # 1 - 3 / 5
    assert pairwise_diversity(torch.ones(4, 3)) == pytest.approx(0.0, abs=1e-12)
    assert pairwise_diversity(torch.ones(1, 3)) == 0.0

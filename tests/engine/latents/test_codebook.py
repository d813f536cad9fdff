"""Codebook latents: three ways to move codes, the nearest-code term, and the two stages of a run."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from engine.inference.flow import TURN_LENGTHS, Particles, Problem, concentrated, refine, typical_norm
from engine.inference.terms import Batch, NearestCode
from engine.latents.codebook import Codebook, CodeSpace, SoftCodeSpace, StraightThroughSpace, check_memory
from engine.settings import CodeOrder, FlowSettings, SettingsError

HEIGHT, WIDTH, ENTRIES, DIM = 3, 4, 10, 5
COUNT = HEIGHT * WIDTH


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


BOOK = Codebook(normal(ENTRIES, DIM) + 0.7)
SPACES = {kind.name: kind(BOOK, HEIGHT, WIDTH) for kind in (CodeSpace, StraightThroughSpace, SoftCodeSpace)}


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> CodeSpace:
    return SPACES[request.param]


class TestEveryCodeSpace:
    def test_a_particle_depends_on_its_own_seed_only(self, space: CodeSpace) -> None:
        assert torch.equal(space.sample([5, 7, 11])[1:2], space.sample([7]))
        assert not torch.equal(space.sample([5]), space.sample([7]))

    def test_samples_have_the_shape_and_are_where_they_may_be(self, space: CodeSpace) -> None:
        latents = space.sample(range(20))
        assert latents.shape == (20, *space.shape)
        torch.testing.assert_close(space.constrain(latents), latents)

    def test_constrain_is_a_projection(self, space: CodeSpace) -> None:
        inside = space.constrain(50 * space.sample(range(10)))
        torch.testing.assert_close(space.constrain(inside), inside)

    def test_scale_is_the_typical_length_of_a_latent(self, space: CodeSpace) -> None:
        lengths = space.sample(range(500)).flatten(1).norm(dim=1)
        assert lengths.square().mean().sqrt().item() == pytest.approx(space.scale, rel=0.05)

    def test_the_prior_is_flat(self, space: CodeSpace) -> None:
        latents = space.sample(range(10)).requires_grad_()
        values = space.log_prior(latents)
        (gradient,) = torch.autograd.grad(values.sum(), latents)
        assert (values == 0).all()  # nothing is known of which codes belong together
        assert (gradient == 0).all()

    def test_decoded_grids_are_laid_out_row_by_row(self, space: CodeSpace) -> None:
        latents = space.sample(range(3))
        grid = space.decode(latents)
        assert grid.shape == (3, DIM, HEIGHT, WIDTH)
        torch.testing.assert_close(BOOK.nearest(grid.permute(0, 2, 3, 1)), space.indices(latents))
        assert torch.equal(space.indices(latents).flatten(1), space.sample_codes(range(3)))

    def test_decode_is_differentiable(self, space: CodeSpace) -> None:
        latents = space.sample(range(3)).requires_grad_()
        (gradient,) = torch.autograd.grad(space.decode(latents).square().sum(), latents)
        assert (gradient.flatten(1).norm(dim=1) > 0).all()

    def test_codes_of_a_bank_are_where_particles_start(self, space: CodeSpace) -> None:
        bank = torch.randint(ENTRIES, (2, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(3))
        indices = replace(space, bank=bank).indices(replace(space, bank=bank).sample(range(20)))
        used = {next(i for i, kept in enumerate(bank) if torch.equal(one, kept)) for one in indices}
        assert used == {0, 1}

    def test_truncation_changes_nothing(self, space: CodeSpace) -> None:
        assert space.truncated(0.5) is space


def test_the_nearest_code_is_nearest_however_it_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = normal(7, 6, DIM, seed=1)
    expected = torch.cdist(vectors, BOOK.codes.expand(7, -1, -1)).argmin(-1)
    assert torch.equal(BOOK.nearest(vectors), expected)
    monkeypatch.setattr("engine.latents.codebook.NEAREST_AT_ONCE", 3 * ENTRIES)
    assert torch.equal(BOOK.nearest(vectors), expected)


def test_straight_through_shows_codes_and_passes_the_gradient() -> None:
    space = SPACES["straight-through"]
    latents = (space.sample(range(2)) + 0.2 * normal(2, COUNT, DIM)).requires_grad_()
    decoded = space.decode(latents)
    codes = BOOK.codes[space.indices(latents)].permute(0, 3, 1, 2)
    torch.testing.assert_close(decoded, codes)
    upstream = normal(2, DIM, HEIGHT, WIDTH, seed=4)
    (gradient,) = torch.autograd.grad(decoded, latents, upstream)
    torch.testing.assert_close(gradient, upstream.flatten(2).transpose(1, 2))


def test_soft_codes_are_mixtures() -> None:
    space = SPACES["soft"]
    latents = normal(2, COUNT, ENTRIES)
    expected = torch.einsum("nkv,vd->nkd", latents.softmax(-1), BOOK.codes)
    torch.testing.assert_close(space.vectors(latents), expected)


def test_logits_are_limited_at_twice_the_first() -> None:
    """Up to there they are free: a mixture may become as good as its code."""
    space = SPACES["soft"]
    assert isinstance(space, SoftCodeSpace)
    limit = 2 * space.first_logit
    free = torch.empty(1, COUNT, ENTRIES).uniform_(-1, 1, generator=torch.Generator().manual_seed(0)) * limit
    assert torch.equal(space.constrain(free), free)
    assert torch.equal(space.constrain(100 * free.sign()), limit * free.sign())


def test_vectors_are_limited_by_the_codes() -> None:
    """Each coordinate by the least and the greatest that a code has there."""
    space = SPACES["codes"]
    codes = BOOK.codes - BOOK.codes.mean(0)
    far = torch.full((1, COUNT, DIM), 1e6)
    assert torch.equal(space.constrain(far), codes.amax(0).expand(1, COUNT, DIM))
    assert torch.equal(space.constrain(-far), codes.amin(0).expand(1, COUNT, DIM))
    between = torch.lerp(codes.amin(0), codes.amax(0), 0.3).expand(1, COUNT, DIM)
    assert torch.equal(space.constrain(between), between)


@pytest.mark.parametrize("kind", [CodeSpace, StraightThroughSpace, SoftCodeSpace])
def test_all_is_made_where_the_codes_are(kind: type[CodeSpace]) -> None:
    """Another device than the CPU; the one of shapes alone is everywhere."""
    space = kind(Codebook(BOOK.codes.to("meta")), HEIGHT, WIDTH)
    codes = space.sample_codes([1, 2])
    assert codes.is_meta and space.latents(codes).is_meta and space.decode(space.sample([1])).is_meta
    for order in get_args(CodeOrder):
        assert space.moving(0, 3, order).is_meta and space.waiting(0, 3, order).is_meta


def test_a_book_is_described_by_mean_and_deviation() -> None:
    torch.testing.assert_close(BOOK.mean, BOOK.codes.mean(0))
    squares = (BOOK.codes - BOOK.codes.mean(0)).square().sum(1)
    assert BOOK.deviation == pytest.approx(math.sqrt(squares.mean().item()))


def test_latents_that_mean_codes() -> None:
    """Of every code the latents decode to it; mixtures are zero on average, as softmax does not see the average."""
    codes = torch.arange(COUNT)[None] % ENTRIES
    for space in SPACES.values():
        assert torch.equal(space.indices(space.latents(codes)).flatten(1), codes)
    logits = SPACES["soft"].latents(codes)
    torch.testing.assert_close(logits.mean(-1), torch.zeros(1, COUNT), atol=1e-6, rtol=0)
    torch.testing.assert_close(SPACES["codes"].vectors(SPACES["codes"].latents(codes)), BOOK.codes[codes])


def test_each_number_gives_other_codes() -> None:
    space = SPACES["codes"]
    assert not torch.equal(space.sample_codes([1, 2]), space.sample_codes([1, 2], 1))
    assert torch.equal(space.sample_codes([2], 1), space.sample_codes([1, 2], 1)[1:])
    many = space.sample_codes(range(200))
    assert many.shape == (200, COUNT) and set(many.flatten().tolist()) == set(range(ENTRIES))


def test_nearest_code_term_is_a_spring() -> None:
    """-1/2 |z - e|^2 for each code: the gradient is e - z, and at the codes themselves nothing."""
    space = SPACES["codes"]
    latents = space.sample(range(2))
    at_codes = NearestCode(space).log_value(Batch(latents, torch.zeros(2, 3, 1, 1)))
    assert (at_codes.abs() < 1e-9).all()
    batch = Batch(latents + 0.05 * normal(2, COUNT, DIM, seed=5), torch.zeros(2, 3, 1, 1))
    value = NearestCode(space).log_value(batch)
    (gradient,) = torch.autograd.grad(value.sum(), batch.latents)
    codes = BOOK.codes[space.indices(batch.latents)].flatten(1, 2) - BOOK.mean
    torch.testing.assert_close(gradient, codes - batch.latents)
    torch.testing.assert_close(value, -0.5 * (batch.latents - codes).square().sum(dim=(1, 2)))


# ---- two stages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", get_args(CodeOrder))
@pytest.mark.parametrize("turns", [1, 5, COUNT, 30])
def test_every_code_has_its_turn(order: CodeOrder, turns: int) -> None:
    """As often as any other up to one, and every turn has a code."""
    space = SPACES["codes"]
    masks = torch.stack([space.moving(turn, turns, order) for turn in range(turns)])
    assert masks.any(dim=1).all()
    counts = masks.sum(0)
    assert counts.min() >= 1 and counts.max() - counts.min() <= 1


@pytest.mark.parametrize("order", get_args(CodeOrder))
@pytest.mark.parametrize("turns", [1, 5, COUNT, 30])
def test_codes_wait_until_their_last_turn(order: CodeOrder, turns: int) -> None:
    space = SPACES["codes"]
    for turn in range(turns):
        later = [space.moving(other, turns, order) for other in range(turn + 1, turns)]
        expected = torch.stack([torch.zeros(COUNT, 1, dtype=torch.bool), *later]).any(0)
        now = space.moving(turn, turns, order)
        assert torch.equal(space.waiting(turn, turns, order) & ~now, expected & ~now)


def test_orders_begin_where_they_say() -> None:
    square = CodeSpace(BOOK, 3, 3)
    assert square.moving(0, 9, "rows").flatten().nonzero().item() == 0
    assert square.moving(0, 9, "centre").flatten().nonzero().item() == 4
    assert torch.equal(square.moving(0, 9, "random"), square.moving(0, 9, "random"))
    orders = {
        order: [square.moving(turn, 9, order).flatten().nonzero().item() for turn in range(9)]
        for order in get_args(CodeOrder)
    }
    assert orders["rows"] == list(range(9))
    assert orders["centre"] == [4, 1, 3, 5, 7, 0, 2, 6, 8]  # by distance, equals in rows
    assert sorted(orders["random"]) == list(range(9)) and orders["random"] not in (orders["rows"], orders["centre"])
    wide = CodeSpace(BOOK, 2, 5)
    assert [wide.moving(turn, 5, "centre").flatten().nonzero().flatten().tolist() for turn in range(2)] == [
        [2, 7],
        [1, 3],
    ]


def test_the_turn_counts_from_the_second_stage() -> None:
    flow = FlowSettings(steps=10, detail_steps=4)
    assert [flow.turn(step) for step in range(11)] == [None] * 6 + [0, 1, 2, 3, None]
    assert FlowSettings(steps=10).turn(9) is None


def test_a_code_in_its_turn_moves_like_the_typical_one() -> None:
    """As the root mean square over its coordinates; the others' move stays as it is."""
    move, mask = normal(5, COUNT, DIM), SPACES["codes"].moving(2, COUNT, "rows")
    move[:, 2] *= 1e-3
    found = concentrated(move, mask)
    assert torch.equal(found[:, ~mask[:, 0]], move[:, ~mask[:, 0]])
    torch.testing.assert_close(typical_norm(found * mask), typical_norm(move) / COUNT**0.5)
    assert (concentrated(torch.zeros(2, COUNT, DIM), mask) == 0).all()


def test_after_its_turn_a_code_is_one_of_the_book(space: CodeSpace) -> None:
    """With the full pull; with none the second stage leaves it between codes."""
    bound, free = (run(space, codebook=weight, detail_steps=6, steps=8)[-1] for weight in (1.0, 0.0))
    assert torch.equal(space.snapped(bound, 1.0), bound)
    if space.name != "straight-through":
        assert (space.snapped(free, 1.0) - free).abs().amax() > 1e-3


def test_snapping_goes_a_share_of_the_way(space: CodeSpace) -> None:
    latents = space.sample([3, 4]) + 0.1 * normal(2, *space.shape)
    at_codes = space.snapped(latents, 1.0)
    assert torch.equal(space.indices(at_codes), space.indices(latents))
    torch.testing.assert_close(space.snapped(latents, 0.25), latents + 0.25 * (at_codes - latents))
    assert torch.equal(space.snapped(latents, 0.0), latents)


class Means:
    """Features that are mean and contrast of each image."""

    def __call__(self, images: Tensor) -> Tensor:
        return torch.nn.functional.normalize(
            torch.stack([images.mean(dim=(1, 2, 3)), images.std(dim=(1, 2, 3)), images[:, :, 0].mean(dim=(1, 2))], 1),
            dim=1,
        )


def run(space: CodeSpace, **options: object) -> list[Tensor]:
    """The latents of every step of a small run towards bright pictures."""
    from engine.inference.terms import TextLikelihood

    extractor, text = Means(), torch.tensor([1.0, 0.0, 0.0])
    problem = Problem(
        render=lambda latents: space.decode(latents)[:, :3],
        space=space,
        extractor=extractor,
        text=text,
        conditions=((TextLikelihood(extractor, text), 1.0),),
    )
    settings = FlowSettings(**{"steps": 8, "detail_steps": 4, "step_schedule": "constant"} | options)  # type: ignore[arg-type]
    steps = list(refine(problem, Particles(space.sample(range(3)), (0, 1, 2)), settings))
    assert [step.stage for step in steps] == [settings.stage(step.step) for step in steps]
    return [step.particles.latents for step in steps]


def test_both_stages_move_what_they_should(space: CodeSpace) -> None:
    """First all codes; then three of twelve settle at a time, in the order of the turns, and move no more."""
    latents = run(space, langevin=0.01)
    moved = [(after != before).any(-1).any(0) for before, after in zip(latents, latents[1:], strict=False)]
    assert all(bool(one.all()) for one in moved[:4])
    for turn, one in enumerate(moved[4:]):
        assert one.tolist() == [False] * (3 * turn) + [True] * (COUNT - 3 * turn)


def test_a_code_takes_the_likeliest_of_the_moves_it_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step of a single turn: each particle's text score is the best of those that each length gives alone."""
    space = SPACES["codes"]

    def scores(lengths: tuple[float, ...]) -> Tensor:
        monkeypatch.setattr("engine.inference.flow.TURN_LENGTHS", lengths)
        images = space.decode(run(space, steps=1, detail_steps=1, step_size=0.02)[-1])[:, :3]
        return Means()(images)[:, 0]

    alone = torch.stack([scores((length,)) for length in TURN_LENGTHS])
    assert len(alone.unique(dim=0)) > 1
    torch.testing.assert_close(scores(TURN_LENGTHS), alone.amax(0))


def test_a_run_without_a_second_stage_moves_everything() -> None:
    latents = run(SPACES["codes"], detail_steps=0)
    assert all(bool((after != before).any(-1).all()) for before, after in zip(latents, latents[1:], strict=False))


def test_the_regulariser_keeps_vectors_at_their_codes() -> None:
    """Its ablation, weight 0, ends farther from the codes."""
    space = SPACES["codes"]
    ends = {weight: run(space, codebook=weight, steps=30, detail_steps=0)[-1] for weight in (0.0, 2.0)}
    distances = {weight: space.code_distance(end).mean().item() for weight, end in ends.items()}
    assert distances[2.0] < 0.5 * distances[0.0]


@pytest.mark.parametrize("entries", [2, 1000])
def test_a_mixture_begins_close_to_its_code(entries: int) -> None:
    """However many codes there are."""
    space = SoftCodeSpace(Codebook(normal(entries, DIM)), 2, 2)
    weights = space.sample([1, 2]).softmax(-1)
    torch.testing.assert_close(weights.amax(-1), torch.full((2, 4), 0.95))
    assert torch.equal(weights.argmax(-1), space.sample_codes([1, 2]))


def test_mixtures_take_the_memory_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight tensors of 4 bytes for each weight of each particle, to the byte."""
    space = SPACES["soft"]
    monkeypatch.setattr("engine.latents.codebook.total_memory", lambda: 3 * COUNT * ENTRIES * 4 * 8)
    assert len(space.sample([1, 2, 3])) == 3
    with pytest.raises(SettingsError, match="this machine has"):
        space.sample([1, 2, 3, 4])


def test_too_many_mixtures_are_refused() -> None:
    with pytest.raises(
        SettingsError, match="n: mixtures of 10 codes at 3 x 4 places need about .* Choose the space 'codes'"
    ):
        check_memory(10**15, SPACES["soft"])

"""Generate without words: the discriminator's logit and the model's examples lead, and nothing is scored."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.inference.flow import TURN_LENGTHS
from engine.inference.terms import Realism, References
from engine.latents.codebook import Codebook, CodeSpace
from engine.metrics.likeness import Likeness
from engine.models.loading import load_generator, load_prompt_model
from engine.settings import LIMITS, OF_THE_MODEL, PRESETS, FlowSettings, GenerateSettings, SettingsError
from engine.tasks import Generation, baseline, check, generate
from engine.tasks.generation import (
    ALONE_BANDWIDTH,
    ALONE_CODES_REPULSION,
    ALONE_DATA,
    ALONE_REALISM,
    ALONE_REPULSION,
    ALONE_STEP,
    ALONE_UNHELD_REPULSION,
)
from tests.engine.tasks.test_tasks import CLASSES, ToyModel, of_classes
from tests.engine.tasks.test_towards import own_examples
from tests.engine.toys import FEATURES, ToyPromptModel, numbers

SETTINGS = GenerateSettings("", n=5, seed=10, flow=FlowSettings(steps=4))


class Blind(ToyModel):
    """Without a discriminator."""

    discriminator = None  # type: ignore[assignment]


def with_examples(model: type[ToyModel] = ToyModel, count: int = 12) -> ToyModel:
    return model(references={ToyPromptModel().sha256: F.normalize(numbers(count, FEATURES, seed=5), dim=1)})


def made(model: ToyModel | None = None, **changes: Any) -> Generation:
    return generate(replace(SETTINGS, **changes), model or with_examples(), ToyPromptModel())


def last_of(task: Generation) -> Any:
    *_, step = task.steps()
    return step


def test_blanks_are_no_words() -> None:
    assert GenerateSettings(" \n\t").prompt == ""
    assert GenerateSettings.from_dict({"prompt": "  "}) == GenerateSettings("")
    assert GenerateSettings(" a hat ").prompt == " a hat "


def test_the_discriminator_is_the_condition_and_the_models_examples_attract() -> None:
    task = made()
    ((term, weight),) = task.problem.conditions
    assert isinstance(term, Realism) and weight == 1 and task.problem.realism is None
    assert isinstance(task.problem.data, References) and len(task.problem.data.features) == 12
    step = last_of(task)
    assert set(step.log_values) == {"repulsion", "data", "realism"}
    torch.testing.assert_close(step.log_values["realism"], step.images.mean((1, 2, 3)))


def test_nothing_is_scored() -> None:
    task = made()
    assert task.problem.text is None and task.problem.captions is None
    for step in task.steps():
        assert step.text_scores is None and step.fits is None and step.diversity > 0


def test_words_have_no_part_in_it() -> None:
    """Contrast prompts, views and candidates judge by words: without any they change no number."""
    plain, asked = made(), made(contrast_prompts=("a man",), cutouts=3, candidates=5)
    assert torch.equal(last_of(plain).particles.latents, last_of(asked).particles.latents)


def test_the_logit_rises_and_pictures_come_nearer_to_the_examples() -> None:
    flow = FlowSettings(steps=30, diversity=0.0)
    for changes, name in (
        ({"data_weight": 0.0, "condition_weight": 50.0}, "realism"),
        ({"condition_weight": 0.0}, "data"),
    ):
        first, *_, last = made(flow=replace(flow, **changes)).steps()  # type: ignore[arg-type]
        assert last.log_values[name].mean() > first.log_values[name].mean() + 0.01, name


def test_where_the_examples_are_the_pictures_nothing_moves() -> None:
    """A and B are then one density, by one kernel: their gradients cancel, whatever the estimator."""
    with torch.no_grad():
        start = made().particles.latents
        features = ToyPromptModel().image_features(ToyModel().render(start, "z"))
    model = ToyModel(references={ToyPromptModel().sha256: features})
    for estimator in ("krr", "kde"):
        flow = FlowSettings(steps=4, estimator=estimator, condition_weight=0.0)
        torch.testing.assert_close(last_of(made(model, flow=flow)).particles.latents, start)
    assert not torch.allclose(last_of(made(model, flow=replace(flow, diversity=1.0))).particles.latents, start)


def test_the_numbers_count_in_units_of_the_latents_and_the_examples() -> None:
    """Of a space of unit variance; a person's numbers keep their proportions, and the paper's preset is what it is."""
    task = made(flow=FlowSettings(step_size=0.6, data_weight=1.0, condition_weight=2.0))
    assert task.problem.data is not None
    flow = task._own_flow(task.settings.flow)
    assert not flow.normalise and not flow.conflict_free
    assert (flow.step_size, flow.data_weight) == pytest.approx((0.6 * ALONE_STEP, ALONE_DATA))
    assert (flow.diversity_gain, flow.condition_weight) == pytest.approx((ALONE_REPULSION, 2 * ALONE_REALISM))
    squares = torch.cdist(task.problem.data.features, task.problem.data.features).square().mean()
    assert flow.bandwidth == pytest.approx(ALONE_BANDWIDTH * float(squares), rel=1e-5)
    assert made(ToyModel())._own_flow(FlowSettings()).bandwidth == FlowSettings().bandwidth
    for unheld in (made(ToyModel())._own_flow(FlowSettings()), task._own_flow(FlowSettings(data_weight=0.0))):
        assert unheld.diversity_gain == ALONE_UNHELD_REPULSION
    assert made(flow=PRESETS["paper"])._own_flow(PRESETS["paper"]) == PRESETS["paper"]
    words = generate(replace(SETTINGS, prompt="a hat"), with_examples(), ToyPromptModel())
    assert words._own_flow(SETTINGS.flow) == SETTINGS.flow
    largest = task._own_flow(FlowSettings(step_size=1.0, data_weight=100.0, condition_weight=1000.0))
    assert largest.data_weight == LIMITS["data_weight"][1]


def test_codes_move_as_they_do_with_words_but_are_repelled_no_more_than_drawn() -> None:
    task = of_codes({})
    own = task._own_flow(task.settings.flow)
    assert own == replace(task.settings.flow, diversity_gain=ALONE_CODES_REPULSION)
    default = FlowSettings()
    assert default.diversity * ALONE_CODES_REPULSION == default.data_weight


def test_one_example_and_equal_ones_are_enough() -> None:
    for count in (1, 3):
        model = ToyModel(references={ToyPromptModel().sha256: F.normalize(torch.ones(count, FEATURES), dim=1)})
        assert last_of(made(model)).images.isfinite().all()


def test_every_part_can_be_left_out() -> None:
    """By its weight, and by a model that has it not."""
    flow = SETTINGS.flow
    for task, names in (
        (made(flow=replace(flow, data_weight=0.0)), {"repulsion", "realism"}),
        (made(flow=replace(flow, condition_weight=0.0)), {"repulsion", "data"}),
        (made(flow=replace(flow, diversity=0.0)), {"data", "realism"}),
        (made(ToyModel()), {"repulsion", "realism"}),
        (made(with_examples(Blind)), {"repulsion", "data"}),
        (made(Blind()), {"repulsion"}),
        (made(n=1), {"data", "realism"}),
    ):
        assert set(last_of(task).log_values) == names


def test_the_aim_is_said_in_a_sentence() -> None:
    flow = SETTINGS.flow
    assert made().aim == (
        "Without words: towards what the discriminator of toy takes for real and its 12 examples, and apart from each "
        "other."
    )
    assert made(flow=replace(flow, data_weight=0.0, diversity=0.0)).aim == (
        "Without words: towards what the discriminator of toy takes for real."
    )
    alone = "Without words: toy has neither discriminator nor examples; only apart from each other."
    assert made(Blind()).aim == alone and made(Blind(), n=1).aim.endswith("examples; nothing moves.")
    assert generate(replace(SETTINGS, prompt="a hat"), with_examples(), ToyPromptModel()).aim == ""


def test_a_persons_own_pictures_attract_instead_of_the_models() -> None:
    examples = own_examples()
    task = generate(replace(SETTINGS, towards=examples.sha256), with_examples(), ToyPromptModel(), examples=examples)
    assert task.problem.data is not None and len(task.problem.data.features) == 3
    assert "3 pictures of yours" in task.aim
    assert task.likeness is not None and len(task.likeness.real) == 12  # which runs are compared with stays the same


def test_the_models_examples_can_be_asked_for_by_name_where_there_are_some() -> None:
    named, meant = made(towards=OF_THE_MODEL), made()
    assert torch.equal(last_of(named).particles.latents, last_of(meant).particles.latents)
    with pytest.raises(SettingsError, match="toy comes with no examples"):
        check(replace(SETTINGS, towards=OF_THE_MODEL), ToyModel(), ToyPromptModel())
    check(SETTINGS, ToyModel(), ToyPromptModel())
    assert generate(replace(SETTINGS, prompt="a hat"), with_examples(), ToyPromptModel()).problem.data is None


def test_every_step_tells_how_like_the_examples_it_is() -> None:
    task = made()
    assert task.likeness is not None
    figures = [task.progress(step) for step in task.steps()]
    assert len(figures) == 5 and all(set(one) == {"frechet", "precision", "recall"} for one in figures)
    step = last_of(task)
    kept = task.generator.references[ToyPromptModel().sha256]
    expected = Likeness(F.normalize(kept.float(), dim=1)).figures(step.features)
    assert task.progress(step) == pytest.approx(expected)
    assert made(ToyModel()).progress(step) == {}
    assert generate(replace(SETTINGS, prompt="a hat"), with_examples(), ToyPromptModel()).progress(step) == {}


class TestBaseline:
    """The plain generator: pictures at the particles' starts, which is step 0 of the run."""

    def test_nothing_moves(self) -> None:
        ours = made()
        side = ours.baseline()
        assert side.settings == baseline(ours.settings) and side.settings.flow.until == 0
        steps = list(side.steps())
        assert [(step.step, step.total) for step in steps] == [(at, 4) for at in range(5)]
        first = next(ours.steps())
        for step in steps:
            assert torch.equal(step.images, first.images) and step.particles.seeds == first.particles.seeds
            assert torch.equal(step.particles.latents, first.particles.latents)
            assert step.particles.step == step.step and step.diversity == first.diversity

    def test_it_draws_once(self) -> None:
        """Sixty steps of standing still cost one."""
        task = made(flow=FlowSettings(steps=60)).baseline()
        before = len(task.generator.network.forward_sizes)  # type: ignore[attr-defined]
        last_of(task)
        assert len(task.generator.network.forward_sizes) == before + 1  # type: ignore[attr-defined]

    def test_the_whole_pictures_count_at_the_end_where_runs_look_at_drafts(self) -> None:
        """As of ours, whose last step is described by what people see."""

        class Drafting(ToyModel):
            draft_resolution = 2

            def render(self, latents: Tensor, space: Any, *, draft: bool = False) -> Tensor:
                images = super().render(latents, space)
                return images if draft else 1 - images

        task = made(Drafting()).baseline()
        first, *_, last = task.steps()
        assert torch.equal(first.pictures, last.pictures) and torch.equal(first.images, last.images)
        torch.testing.assert_close(first.features, task.problem.extractor(first.images))
        torch.testing.assert_close(last.features, task.problem.extractor(last.pictures))

    def test_steps_that_are_sent_reach_it(self) -> None:
        """A longer run beside it: it stands still as long."""
        steps = made().baseline().steps()
        next(steps)
        assert steps.send(FlowSettings(steps=9, until=0)).total == 9
        assert [step.step for step in steps][-1] == 9

    def test_a_run_that_goes_on_from_step_0_moves(self) -> None:
        """A restored picture of the baseline: without its end at step 0 it is ours."""
        side = made().baseline()
        *_, moved = side.steps(replace(side.settings.flow, until=None))
        assert torch.equal(moved.particles.latents, last_of(made()).particles.latents)


def test_all_classes_share_the_pictures() -> None:
    task = of_classes(prompt="", class_count=1)
    assert task.classes == CLASSES
    assert task.labels(next(task.steps())) == ("a dress", "a coat")
    assert of_classes(prompt="", classes=("a bag",)).classes == ("a bag",)


def of_codes(references: Mapping[str, Tensor]) -> Generation:
    """Two stages of four codes each."""
    bank = torch.randint(4, (20, 2, 2), generator=torch.Generator().manual_seed(2))
    codes = CodeSpace(Codebook(numbers(4, 3).float()), 2, 2, bank)
    model = Blind(spaces={"codes": codes}, default_space="codes", references=references)
    model.render = lambda latents, space, **_: codes.decode(latents).double()  # type: ignore[method-assign]
    prompts = ToyPromptModel()
    prompts.tower = lambda images: F.normalize(images.flatten(1)[:, :FEATURES], dim=1)  # type: ignore[assignment]
    flow = FlowSettings(steps=8, detail_steps=4, step_size=0.2, diversity=0.1)
    return generate(replace(SETTINGS, candidates=3, flow=flow), model, prompts)


def test_codes_begin_at_pictures_that_nothing_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.tasks.generation.fitting_starts", lambda *_: pytest.fail("a search"))
    task = of_codes({})
    space: Any = task.problem.space
    assert torch.equal(task.particles.latents, space.sample(task.particles.seeds))
    assert "data" not in last_of(task).log_values


def test_codes_settle_where_the_examples_are_likeliest(monkeypatch: pytest.MonkeyPatch) -> None:
    """In its turn a code tries moves of several lengths, and B says which it takes, as C does with words."""
    task = of_codes({ToyPromptModel().sha256: F.normalize(numbers(12, FEATURES, seed=6), dim=1)})
    chosen = last_of(task).log_values["data"].mean()
    monkeypatch.setattr("engine.inference.flow.TURN_LENGTHS", TURN_LENGTHS[:1])
    assert chosen > last_of(task).log_values["data"].mean() + 0.01


def test_a_bundle_runs_without_words(tiny_assets: Path) -> None:
    """A StyleGAN2 with its discriminator, by both of its spaces, truncated and "more like this"."""
    model, prompts = load_generator("avatars", assets=tiny_assets), load_prompt_model("clip-mini", assets=tiny_assets)
    asked: tuple[Any, ...] = ({}, {"space": "z"}, {"truncation_psi": 0.7}, {"start": (0.1,) * 8, "spread": 0.5})
    for changes in asked:
        task = generate(replace(SETTINGS, n=3, **changes), model, prompts)
        step = last_of(task)
        assert "realism" in step.log_values and step.images.isfinite().all()
        assert task.progress(step) == {}  # no examples came with it

"""The presets on the bundled models: a comparison of presets compares estimators, and each moves something."""

from dataclasses import replace
from itertools import islice

import pytest

from engine.families import find_family
from engine.models.loading import list_models, load_generator, load_prompt_model
from engine.models.table import ModelRow, family_of, first_settings
from engine.settings import OPPOSING_GAIN, PRESETS
from engine.tasks import generate

GENERATORS = {row.name: row for row in list_models() if row.kind == "generator"}
DRAWING = [name for name, row in GENERATORS.items() if "generate" in find_family(row.family).possible_tasks]
OF_THE_MODEL = ("step_size", "step_schedule", "codebook", "realism", "steps", "detail_steps")
MOVES = 3


@pytest.mark.parametrize("row", GENERATORS.values(), ids=GENERATORS)
def test_presets_of_one_model_differ_by_their_estimators_alone(row: ModelRow) -> None:
    """Those of normalised terms, of which repulsion that does not give way is as much weaker for each model; "paper"
    has raw weights, but the model's realism, and both stages where there are."""
    flows = {preset: family_of(row.family, row).flow(preset) for preset in PRESETS}
    for flow in flows.values():
        if flow.normalise:
            assert [getattr(flow, name) for name in OF_THE_MODEL] == [
                getattr(flows["robust"], name) for name in OF_THE_MODEL
            ]
            assert flow.diversity_gain == flows["robust"].diversity_gain * (1 if flow.conflict_free else OPPOSING_GAIN)
    paper, robust = flows["paper"], flows["robust"]
    assert (paper.realism, paper.steps, paper.detail_steps) == (robust.realism, robust.steps, robust.detail_steps)
    assert (paper.bandwidth, paper.eta, paper.diversity, paper.diversity_gain) == (1.0, 0.1, 1.0, 1.0)
    assert 0.1 <= paper.step_size <= 1


def test_a_model_may_have_numbers_of_its_own() -> None:
    """Its family's others stay; "paper" keeps the equations."""
    row = replace(GENERATORS["fashion"], tuned={"diversity_gain": 2.0})
    family, own = family_of(row.family, None), family_of(row.family, row)
    assert own.flow("robust") == replace(family.flow("robust"), diversity_gain=2.0)
    assert own.flow("kde") == replace(family.flow("kde"), diversity_gain=2.0 * OPPOSING_GAIN)
    assert own.flow("paper") == family.flow("paper")
    assert first_settings(row.name, row.family, row).flow == own.flow("robust")


@pytest.mark.parametrize(("name", "values"), [("avatars", 88), ("fashion", 0)])
def test_choosing_whole_values_takes_time_for_each(name: str, values: int) -> None:
    row = GENERATORS[name]
    first = replace(first_settings(name, row.family, row), n=1)
    task = generate(first, load_generator(name), load_prompt_model(first.prompt_model))
    assert task.ending_cost == pytest.approx(0.3 * values)


@pytest.mark.parametrize("name", DRAWING)
def test_particles_move_a_sensible_share_of_the_space_by_every_preset(name: str) -> None:
    """In three moves between 2 % (those of mosaic's .007 along the prompt are 2.1 %) and twice the typical length of a
    latent; codes by "paper" used to move 0.7 %."""
    row = GENERATORS[name]
    generator = load_generator(name)
    first = replace(first_settings(name, row.family, row), n=3, candidates=1)
    task = generate(first, generator, load_prompt_model(first.prompt_model))
    shares = {}
    for preset in PRESETS:
        *_, last = islice(task.steps(family_of(row.family, row).flow(preset)), MOVES + 1)
        moved = (last.particles.latents - task.particles.latents).flatten(1).norm(dim=1).median()
        shares[preset] = moved.item() / task.problem.space.scale
    assert all(0.02 < share < 2 for share in shares.values()), shares
    normalised = [share for preset, share in shares.items() if PRESETS[preset].normalise]
    assert max(normalised) < 3 * min(normalised), shares

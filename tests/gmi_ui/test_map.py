"""The map of a run's pictures: all sides in one plane, at every step, and as it was when looked back."""

from typing import Any

import pytest
import torch

from engine.metrics.plane import mean_distance
from gmi_ui.jobs.generating import GENERATE
from gmi_ui.runs.run import BASELINE, OURS, Run
from gmi_ui.runs.work import Phase
from gmi_ui.services import Services
from tests.gmi_ui.test_frames import frame_of
from tests.gmi_ui.tiny import WIDE, three_models, tiny_settings
from tests.gmi_ui.waiting import wait_for_end

TOKEN = "ab" * 16


def ended(services: Services, **changes: Any) -> Run:
    run = Run(tiny_settings(**changes), GENERATE)
    services.start(services.sessions.get(TOKEN), run)
    wait_for_end(run)
    assert run.moment.phase is Phase.DONE
    return run


def test_all_sides_lie_in_one_plane(services: Services) -> None:
    run = ended(services, n=5)
    frame = frame_of(services, services.sessions.get(TOKEN))
    assert run.plane is not None and frame["map"] == {"share": round(run.plane.share, 3)}
    together = []
    for name in (OURS, BASELINE):
        places = torch.tensor(frame["sides"][name]["places"])
        expected = run.plane.places(run.moment.sides[name].step.features)
        assert places.shape == (5, 2) and torch.allclose(places.double(), expected, atol=1e-4)
        assert mean_distance(expected) <= mean_distance(run.moment.sides[name].step.features.double())
        together.append(expected)
    assert torch.cat(together).mean(0).abs().max() < 1e-6  # in the middle of the map


def test_looked_back_the_plane_is_the_same_and_the_pictures_where_they_were(services: Services) -> None:
    run = ended(services, n=4)
    assert run.plane is not None
    for step in (0, 3):
        past = services.painter.past_frame(run, step)
        for name, side in run.moment.sides.items():
            features = side.kept_at(step).features
            assert features is not None
            expected = run.plane.places(features)
            assert torch.allclose(torch.tensor(past[name]["places"]).double(), expected, atol=1e-4)
    starts = [torch.tensor(services.painter.past_frame(run, 0)[name]["places"]) for name in (OURS, BASELINE)]
    assert torch.equal(*starts)  # both sides begin with the same pictures


@pytest.mark.parametrize("changes", [{"n": 1}, {"n": 1, "baseline": False}, {"n": 2, "baseline": False}])
def test_too_few_pictures_have_no_map(changes: dict[str, Any], services: Services) -> None:
    ended(services, **changes)
    frame = frame_of(services, services.sessions.get(TOKEN))
    assert frame["map"] is None or "share" in frame["map"]
    assert (frame["map"] is None) == (frame["sides"][OURS]["places"] is None)


def test_two_prompt_models_see_different_things() -> None:
    services = Services.around(three_models())
    beside = tiny_settings(model="mosaic", prompt_model=WIDE, baseline=False).to_dict()
    ended(services, beside=beside, baseline=False)
    assert frame_of(services, services.sessions.get(TOKEN))["map"] is None


def test_it_adds_little_to_a_frame(services: Services) -> None:
    """Two numbers for a picture."""
    ended(services, n=16)
    frame = frame_of(services, services.sessions.get(TOKEN))
    assert len(str(frame["sides"][OURS]["places"])) < 16 * 24

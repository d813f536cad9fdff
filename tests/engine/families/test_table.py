"""The table of families: complete, read without torch, and unmistakable about whose weights a file holds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import Tensor

import engine.families
from engine.checkpoints.configuration import complete
from engine.errors import ModelError
from engine.families import FAMILIES, find_family
from engine.families.declaration import (
    Option,
    count,
    count_or_none,
    one_of,
    positive,
    positive_or_none,
    switches_or_none,
)
from engine.models.loading import load_generator
from engine.models.table import ModelRow, first_settings, list_models
from engine.settings import PRESETS, FlowSettings, GenerateSettings
from tests.engine.families.test_families import OPTIONS as TINY
from tests.engine.families.test_families import networks_of
from tests.goldens import DATA

SHARED_FILES = {"__init__", "declaration", "common"}


def test_every_file_is_in_the_table_under_its_own_name() -> None:
    folder = Path(engine.families.__file__).parent
    assert FAMILIES.keys() == {path.stem for path in folder.glob("*.py")} - SHARED_FILES
    assert all(family.name == name for name, family in FAMILIES.items())
    assert len({family.label for family in FAMILIES.values()}) == len(FAMILIES)


def test_the_tables_are_read_without_torch() -> None:
    """The page lists all families when it starts; importing torch takes seconds."""
    script = (
        "import sys, engine.families, engine.models.table, engine.models.memory, engine.models.store;"
        "print([name for name in ('torch', 'numpy', 'engine.networks') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_family_says_of_its_runs_is_known_to_the_settings(name: str) -> None:
    family = FAMILIES[name]
    known = {field.name for field in (*fields(GenerateSettings), *fields(FlowSettings))}
    assert set(family.choices) <= known
    for preset in PRESETS:
        flow = family.flow(preset)
        assert (flow.detail_steps > 0) == family.has_stages
        assert preset == "robust" or flow.estimator == PRESETS[preset].estimator
    assert all(getattr(family.flow(), setting) == value for setting, value in family.tuned.items())
    assert first_settings("x", name).candidates == family.candidates
    assert family.tasks and family.bytes_per_pixel > 0
    assert family.is_generator or (family.purpose and not family.possible_tasks)


def test_only_choices_of_a_single_model_can_be_wrong_for_another() -> None:
    with_own = {name for name, family in FAMILIES.items() if family.has_own_choices}
    assert with_own == {"biggan", "biggan_deep", "dalle_dvae", "vqgan", "one_step_diffusion"}
    assert {name for name, family in FAMILIES.items() if family.has_classes} == {"biggan", "biggan_deep"}


def test_of_an_unknown_family_nothing_is_promised() -> None:
    family = find_family("diffusion")
    assert (family.label, family.networks, family.possible_tasks) == ("diffusion", {}, ())
    assert not family.is_generator and not family.has_own_choices
    assert family.flow() == FlowSettings()


# ---- signatures ------------------------------------------------------------------------------------------


def states() -> Iterator[tuple[str, str, dict[str, Tensor]]]:
    """State dicts without values by the family, and the role, that they are of; "" for those that a format tells."""
    for name in TINY:
        for role, network in networks_of(name).items():
            told = role if name in ("biggan", "dalle_dvae") else ""
            yield name, told, dict(network.state_dict())
    manifests = (
        ("biggan", "generator", "biggan_ajbrock_128"),
        ("biggan", "generator", "biggan_ajbrock_512"),
        ("comodgan", "generator", "comodgan_512"),
        ("dalle_dvae", "decoder", "dalle_decoder"),
        ("dalle_dvae", "encoder", "dalle_encoder"),
        ("dfgan", "generator", "dfgan_netG_256"),
        ("stylegan2", "generator", "stylegan2_ffhq1024"),
        ("stylegan2", "generator", "stylegan2_cifar10_cond"),
        ("biggan_deep", "", "biggan-deep-256"),
        ("vqgan", "", "vqgan_imagenet_f16_1024"),
        ("vqgan", "", "vqgan_gumbel_f8_8192"),
    )
    for family, role, name in manifests:
        keys = json.loads((DATA / "goldens" / "manifests" / f"{name}.json").read_text())["keys"]
        yield family, role, {key: torch.empty(shape, device="meta") for key, shape in keys.items()}


def test_a_bare_file_is_taken_for_one_network_only() -> None:
    for family, role, state in states():
        taken_for = [
            (name, other) for name, one in FAMILIES.items() for other, n in one.networks.items() if n.is_in(state)
        ]
        assert taken_for == ([(family, role)] if role else [])
    assert not any(n.is_in({}) for one in FAMILIES.values() for n in one.networks.values())


# ---- options ---------------------------------------------------------------------------------------------


def all_options() -> list[tuple[str, str, Option]]:
    return [
        (name, role, option)
        for name, family in FAMILIES.items()
        for role, network in family.networks.items()
        for option in network.options
    ]


def test_usual_values_are_possible_ones() -> None:
    assert len(all_options()) >= 10
    for name, role, option in all_options():
        assert option.accepts(option.usual) and option.about and option.expected
        assert not option.accepts("") and not option.accepts(object())
        found = complete(name, [role], {}, {f"{role}.{option.name}": option.usual})
        assert found[role][option.name].value == option.usual


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        (positive("x", 1, ""), [1, 0.5, 1e9], [0, -1, True, None, float("inf"), float("nan"), "1", [1]]),
        (positive_or_none("x", ""), [None, 256], [0, False, "none"]),
        (count("x", 1, ""), [1, 4096], [0, 4097, 1.0, True, None]),
        (count_or_none("x", 4, ""), [None, 4], [0, True, 4.0]),
        (switches_or_none("x", ""), [None, [], [True, False]], [[1], [True] * 64, (True,), "true"]),
        (one_of("x", ("a", "b"), ""), ["a", "b"], ["c", None, ["a"], 1]),
    ],
)
def test_options_accept_what_they_say(option: Option, good: list[object], bad: list[object]) -> None:
    assert all(option.accepts(value) for value in good)
    assert not any(option.accepts(value) for value in bad)


def test_an_unknown_option_names_those_there_are() -> None:
    with pytest.raises(ModelError, match=r"no setting 'ep'; did you mean eps\?"):
        complete("biggan_deep", ["generator"], {}, {"ep": 1})


# ---- cards -----------------------------------------------------------------------------------------------


def bundled(name: str) -> ModelRow:
    return next(row for row in list_models() if row.name == name)


def test_avatars_tell_what_was_measured_of_them() -> None:
    """Limits of one model are in its model.json; another model of the family has none."""
    row, model = bundled("avatars"), load_generator("avatars")
    for told in (row, model):
        assert (told.encoder_side, told.in_domain_distance, told.framed_distance) == (64, 0.04, 0.06)
    own = load_generator(str(row.file("generator").path))
    assert (own.family, own.encoder_side, own.in_domain_distance, own.framed_distance) == ("stylegan2", 0, None, None)
    assert bundled("fashion").in_domain_distance is None

"""What `pip install .` brings: everything the code needs, and nothing but the product."""

import ast
import fnmatch
import runpy
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.version import Version

from engine.lab.course import NETWORKS
from engine.models.table import ASSETS, list_models

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("engine", "gmi_ui")


def requirements() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return {requirement.name: requirement for requirement in map(Requirement, filter(None, lines))}


def locked() -> dict[str, Version]:
    lines = (ROOT / "requirements-lock.txt").read_text().split()
    return {name: Version(version) for name, _, version in (line.partition("==") for line in lines)}


def imported() -> set[str]:
    """The top-level modules that the product imports, now or later."""
    found: set[str] = set()
    for package in PRODUCT:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - set(PRODUCT)


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What setup.py asks for."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **keywords: told.update(keywords))
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    return told


def test_every_import_is_declared() -> None:
    providers = metadata.packages_distributions()
    declared = {name.lower().replace("_", "-") for name in requirements()}
    for module in imported():
        names = {name.lower().replace("_", "-") for name in providers[module]}
        assert names & declared, f"{module} is imported, requirements.txt declares none of {sorted(names)}"


def test_every_requirement_has_both_bounds() -> None:
    for requirement in requirements().values():
        operators = {part.operator for part in requirement.specifier}
        assert ">=" in operators and "<" in operators, requirement


def test_the_lock_file_holds_versions_that_the_requirements_allow() -> None:
    versions = {name.lower().replace("_", "-"): version for name, version in locked().items()}
    for name, requirement in requirements().items():
        assert versions[name.lower().replace("_", "-")] in requirement.specifier, requirement
    assert not {"pytest", "gmi-studio"} & versions.keys()


def test_what_is_optional_is_an_extra_and_imported_only_by_name() -> None:
    """A file each, which pyproject names; none is declared or imported as what always is there."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"]
    optional = extras["optional-dependencies"]
    assert {"video", "window", "diffusion"} <= optional.keys()
    for name in ("video", "window", "diffusion"):
        assert optional[name]["file"] == [f"requirements-{name}.txt"]
        for line in (ROOT / f"requirements-{name}.txt").read_text().split():
            requirement = Requirement(line)
            assert {">=", "<"} == {part.operator for part in requirement.specifier}, line
            assert requirement.name not in requirements()
    assert not {"diffusers", "transformers", "accelerate"} & imported()


def test_those_who_work_on_it_have_what_diffusion_takes() -> None:
    developers = {Requirement(line).name for line in (ROOT / "requirements-dev.txt").read_text().split()}
    optional = {Requirement(line).name for line in (ROOT / "requirements-diffusion.txt").read_text().split()}
    assert optional <= developers


def test_a_wheel_holds_the_bundled_models_and_no_other_pictures(wheel: dict[str, Any]) -> None:
    assert wheel["package_dir"] == {"engine.assets": ASSETS.name}
    patterns = wheel["package_data"]["engine.assets"]
    held = {path for pattern in patterns for path in ASSETS.glob(pattern)}
    needed = {file.path for row in list_models() for file in row.files.values()}
    needed |= {row.folder / name for row in list_models() for name in ("model.json", "card.md")}
    assert needed and needed <= held
    assert {path.parent.name for path in held} == {row.name for row in list_models()} | {NETWORKS.parent.name}
    assert NETWORKS in held


def test_a_wheel_holds_all_of_the_page(wheel: dict[str, Any]) -> None:
    patterns = wheel["package_data"][""]
    for package in PRODUCT:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                assert any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns), path
                assert (path.parent / "__init__.py").exists(), f"{path} lies in no package"


def test_a_wheel_holds_the_product_alone(wheel: dict[str, Any]) -> None:
    packages = set(wheel["packages"])
    assert {package.partition(".")[0] for package in packages} == set(PRODUCT)
    for package in PRODUCT:
        for path in (ROOT / package).rglob("__init__.py"):
            assert ".".join(path.parent.relative_to(ROOT).parts) in packages


def test_the_console_command_is_the_studio() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["gmi-studio"].partition(":")
    assert callable(getattr(__import__(module, fromlist=[function]), function))
    named = {line.rpartition(" ")[2] for line in project["classifiers"] if "Python :: 3." in line}
    assert named == {"3.11", "3.12", "3.13"}

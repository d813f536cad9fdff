"""Dependencies point one way: app -> gmi_ui -> engine, and inside the two from floor to floor, without a circle."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the ground up. A room, a package or a file beside the packages, imports only from lower floors and itself.
FLOORS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "engine": (
        ("version", "errors", "settings"),
        ("system", "metrics"),
        ("networks",),
        ("latents", "pictures"),
        ("families",),
        ("checkpoints", "inference"),
        ("models", "samplers"),
        ("tasks", "lab", "bulk"),
        ("commands",),
        ("__init__", "__main__"),
    ),
    "gmi_ui": (
        ("languages", "listening", "notices", "temporary", "theme", "tokens", "window"),
        ("guard", "preferences"),
        ("models",),
        ("runs",),
        ("pictures",),
        ("jobs", "sessions"),
        ("frames", "history"),
        ("services", "controls"),
        ("opening",),
        ("server_functions", "api"),
        ("components",),
        ("tabs",),
        ("studio",),
        ("command_line",),
        ("__init__",),
    ),
}

# Top-level packages and what of ours they must never import.
FORBIDDEN = {
    "engine": {"gradio", "gmi_ui", "app", "training", "experiments", "tests"},
    "gmi_ui": {"app", "training", "experiments", "tests"},
    "training": {"gradio", "gmi_ui", "app", "experiments", "tests"},
    "experiments": {"gradio", "gmi_ui", "app", "tests"},
}


def imported_names(path: Path) -> Iterator[str]:
    """Absolute names of every import in a file, wherever it stands; `from a import b` gives a.b."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (above, node.module)))
            yield from (f"{source}.{alias.name}" for alias in node.names)


def files_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def room_of(path: Path) -> str:
    """engine/networks/stylegan2.py -> networks, engine/settings.py -> settings."""
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


def module_of(path: Path) -> str:
    """engine/networks/stylegan2.py -> engine.networks.stylegan2, engine/networks/__init__.py -> engine.networks."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def floor_of(package: str, room: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS[package]) if room in rooms)


def own_imports(package: str) -> dict[str, set[str]]:
    """Every module of a package with those of the same package that it imports, for types alone included."""
    modules = {module_of(path): path for path in files_of(package)}
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = {name if name in modules else name.rpartition(".")[0] for name in imported_names(path)}
        found[module] = {name for name in names if name in modules} - {module, package}
    return found


def circle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle of imports, as the modules along it; empty where there is none."""
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str]:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph[module]):
            if circle := visit(other, [*trail, module]):
                return circle
        done.add(module)
        return []

    return next((circle for module in sorted(graph) if (circle := visit(module, []))), [])


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_know_only_what_is_below_them(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files_of(package)
        for name in imported_names(path)
        if name.split(".")[0] in FORBIDDEN[package]
    ]
    assert not wrong


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_has_one_floor(package: str) -> None:
    listed = [room for floor in FLOORS[package] for room in floor]
    assert {room_of(path) for path in files_of(package)} == set(listed)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("package", FLOORS)
def test_imports_lead_downwards(package: str) -> None:
    wrong = []
    for path in files_of(package):
        room = room_of(path)
        rooms = {name.split(".")[1] for name in imported_names(path) if name.startswith(f"{package}.")} - {room}
        wrong += [
            f"{path.relative_to(ROOT)} imports {other}"
            for other in rooms
            if floor_of(package, other) >= floor_of(package, room)
        ]
    assert not wrong


@pytest.mark.parametrize("package", FLOORS)
def test_no_imports_run_in_a_circle(package: str) -> None:
    assert circle_in(own_imports(package)) == []


@pytest.mark.parametrize("package", ("engine", "gmi_ui"))
def test_private_names_stay_in_their_package(package: str) -> None:
    """An underscore name of a package is imported by that package's own files alone; also not as an attribute."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files_of(package)
        for name in imported_names(path)
        if name.split(".")[0] in ("engine", "gmi_ui")
        and any(part.startswith("_") and not part.startswith("__") for part in name.split("."))
        and name.split(".")[:2] != [package, room_of(path)]
    ]
    assert not wrong


def test_relative_and_nested_imports_are_seen() -> None:
    """The checks themselves: this file's own imports, one inside a function of the engine, and a circle."""
    assert {"ast", "pathlib.Path", "collections.abc.Iterator"} <= set(imported_names(Path(__file__).resolve()))
    assert "open_clip" in set(imported_names(ROOT / "engine" / "models" / "clip.py"))
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []

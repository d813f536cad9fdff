"""Dependencies point one way: app -> gmi_ui -> engine, and inside the engine from tasks to kernels."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the bottom up. A module imports only modules of lower layers; a package counts as one module.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("version", "errors", "settings", "files", "folders", "memory", "metrics", "precision"),
    ("kernels", "latents", "networks", "runtime", "model_table", "public_models", "downloads", "model_pool"),
    ("checkpoints", "model_store", "kinds"),
    ("density", "clip", "imaging", "class_latents", "codebook", "sentence_latents", "styles"),
    ("families", "pictures"),
    ("terms", "models", "masks"),
    ("flow", "inversion"),
    ("moves", "styleclip"),
    ("tasks", "models_command"),
    ("command_line",),
    ("picture_commands",),
    ("__init__", "__main__"),
)

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


def module_of(path: Path) -> str:
    """engine/networks/stylegan2.py -> networks, engine/flow.py -> flow."""
    return path.relative_to(ROOT / "engine").parts[0].removesuffix(".py")


def layer_of(module: str) -> int:
    return next(level for level, modules in enumerate(LAYERS) if module in modules)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_know_only_what_is_below_them(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files_of(package)
        for name in imported_names(path)
        if name.split(".")[0] in FORBIDDEN[package]
    ]
    assert not wrong


def test_every_module_of_the_engine_has_a_layer() -> None:
    modules = {module_of(path) for path in files_of("engine")}
    listed = [module for layer in LAYERS for module in layer]
    assert modules == set(listed)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("path", files_of("engine"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_engine_imports_downwards(path: Path) -> None:
    module = module_of(path)
    imported = {name.split(".")[1] for name in imported_names(path) if name.startswith("engine.")} - {module}
    assert not {name for name in imported if layer_of(name) >= layer_of(module)}


def test_relative_and_nested_imports_are_seen() -> None:
    """The check itself: this file's own imports, and one inside a function of the engine."""
    assert {"ast", "pathlib.Path", "collections.abc.Iterator"} <= set(imported_names(Path(__file__).resolve()))
    assert "open_clip" in set(imported_names(ROOT / "engine" / "clip.py"))

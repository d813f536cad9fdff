"""Where the pictures of `mosaic` come from: npm packages, our own drawings, Fashion-MNIST; and their licences.

`node/package.json` pins the packages. What a package allows is read from the package itself, so that a version with
another licence is noticed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "node"
FOLDER = Path("training/runs/mosaic/node")
INSTALL_SECONDS = 600

EMOJI_SETS = ("twemoji", "noto", "fluent-emoji-flat")
ICON_SETS = ("tabler", "lucide", "bi", "mdi", "ph")
STYLES = (
    "adventurer", "big-smile", "fun-emoji", "lorelei", "micah", "notionists", "open-peeps", "personas", "pixel-art",
    "thumbs", "toon-head",
)  # fmt: skip
ALLOWED = ("MIT", "ISC", "Apache-2.0", "CC-BY-4.0", "CC0-1.0")
GRAPHICS = {"CC0 1.0": "CC0-1.0", "CC BY 4.0": "CC-BY-4.0"}  # as DiceBear's packages write them

_TONE = re.compile(r"(^|-)(light|medium|dark)(-skin-tone)?(-|$)|tone\d|skin-tone|^flag-|^regional|^keycap|^digit-")
_TONE_ALIAS = re.compile(r"-(facing-right|transgender|left-right|sign)$")
_VARIANT = re.compile(
    r"-(fill|filled|outline|outlined|bold|duotone|thin|light|regular|variant|alt|sharp|square|circle)$"
)
_UNDRAWABLE = {("noto", "package"), ("noto", "rainbow-flag")}  # resvg 2.6.2 aborts on them
_WORDS = re.compile(r"[a-z]{3,}(-[a-z]{2,})?")
_LOGO = re.compile(r"^(brand|logo)-|-logo(-|$)")


class PackageError(Exception):
    """A package is missing, or it does not allow what it is used for."""


@dataclass(frozen=True)
class Glyph:
    """One picture to be drawn: its SVG body and frame, what it shows, and other words for that."""

    origin: str
    name: str
    also: tuple[str, ...]
    body: str
    box: tuple[float, float, float, float]  # left, top, width, height
    facts: Mapping[str, Any] = field(default_factory=dict)

    def svg(self, margin: float) -> str:
        """The picture with `margin` of its side around it."""
        left, top, width, height = self.box
        side = max(width, height) * (1 + 2 * margin)
        x, y = left + (width - side) / 2, top + (height - side) / 2
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="64" '
            f'height="64" viewBox="{x} {y} {side} {side}">{self.body}</svg>'
        )


def install(folder: Path = FOLDER) -> None:
    """Install the pinned packages, unless they are there. Raises PackageError where npm fails."""
    wanted = (HERE / "package.json").read_text()
    folder.mkdir(parents=True, exist_ok=True)
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, folder)
    done = folder / "installed.json"
    if done.exists() and done.read_text() == wanted:
        return
    (folder / "package.json").write_text(wanted)
    command = ["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=1"]
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except FileNotFoundError as error:
        raise PackageError("npm is missing: install Node.js with npm") from error
    except subprocess.TimeoutExpired as error:
        raise PackageError(f"npm install took more than {INSTALL_SECONDS} s in {folder}") from error
    if result.returncode:
        raise PackageError(f"npm install failed in {folder}:\n{result.stderr[-2000:]}")
    done.write_text(wanted)


def licences() -> list[dict[str, str]]:
    """What each source's package says: name, version, licence, author. Raises PackageError for one not allowed."""
    rows = [
        *(_emoji_or_icons(name) for name in (*EMOJI_SETS, *ICON_SETS)),
        *(_style(name) for name in STYLES),
        _package("emojibase-data", "names and keywords of emoji", ""),
    ]
    for row in rows:
        if row["licence"] not in ALLOWED:
            raise PackageError(f"{row['package']} is under {row['licence']!r}; allowed are {', '.join(ALLOWED)}")
    return rows


def _emoji_or_icons(name: str) -> dict[str, str]:
    facts = _read(f"@iconify-json/{name}/info.json")
    package = f"@iconify-json/{name}"
    return {
        "package": package,
        "version": _read(f"{package}/package.json")["version"],
        "licence": facts["license"]["spdx"],
        "title": facts["name"],
        "author": f"{facts['author']['name']} ({facts['author']['url']})",
    }


def _style(name: str) -> dict[str, str]:
    text = (FOLDER / "node_modules/@dicebear" / name / "LICENSE").read_text()

    def line(key: str) -> str:
        found = re.search(rf"^{key}: (.+)$", text, re.MULTILINE)
        return found.group(1) if found else ""

    licence = line("License").split(" (")[0]
    return {
        "package": f"@dicebear/{name}",
        "version": _read(f"@dicebear/{name}/package.json")["version"],
        "licence": GRAPHICS.get(licence, licence),
        "title": line("Source").split(" (")[0],
        "author": line("Designer"),
    }


def _package(name: str, title: str, author: str) -> dict[str, str]:
    facts = _read(f"{name}/package.json")
    told = facts.get("author", author)
    return {
        "package": name, "version": facts["version"], "licence": facts["license"], "title": title,
        "author": told if isinstance(told, str) else str(told.get("name", "")),
    }  # fmt: skip


def _read(path: str) -> Any:
    return json.loads((FOLDER / "node_modules" / path).read_text())


# ---- emoji -----------------------------------------------------------------------------------------------


def emoji(origin: str) -> Iterator[Glyph]:
    """Every emoji of a set but skin tones, flags of places and digits; keywords from emojibase."""
    icons, keywords = _read(f"@iconify-json/{origin}/icons.json"), _keywords()
    by_name = {name: code for code, name in _read(f"@iconify-json/{origin}/chars.json").items()}
    for name, icon in icons["icons"].items():
        if _TONE.search(name) or _TONE_ALIAS.search(name) or len(name) < 2 or (origin, name) in _UNDRAWABLE:
            continue
        known = keywords.get(_plain_code(by_name.get(name, "")), ())
        yield Glyph(origin, name.replace("-", " "), known, icon["body"], _box(icon, icons))


def _plain_code(code: str) -> str:
    """A code point sequence without variation selectors, upper case."""
    return "-".join(part for part in code.upper().split("-") if part != "FE0F")


@cache
def _keywords() -> Mapping[str, tuple[str, ...]]:
    """Label and tags of every emoji by its code points."""
    return {
        _plain_code(row["hexcode"]): tuple(dict.fromkeys((row["label"].lower(), *row.get("tags", ()))))
        for row in _read("emojibase-data/en/data.json")
    }


# ---- icons -----------------------------------------------------------------------------------------------


def icons() -> Iterator[Glyph]:
    """Icons whose name says what they show: at least two sets have it, or it is an emoji's name or keyword.

    One filled and one outlined icon of each set, where it has both. Logos are left out.
    """
    told = {word for words in _keywords().values() for word in words}
    logos = {name.removeprefix("brand-") for name in _read_icons("tabler")["icons"] if _LOGO.search(name)}
    concepts: dict[str, dict[str, list[str]]] = {}
    for origin in ICON_SETS:
        for name in _read_icons(origin)["icons"]:
            if (base := _concept(name)) and base not in logos:
                concepts.setdefault(base, {}).setdefault(origin, []).append(name)
    for base, found in sorted(concepts.items()):
        if len(found) > 1 or base.replace("-", " ") in told:
            for origin, names in found.items():
                yield from _variants(origin, base, names)


def _concept(name: str) -> str:
    """The name without its variant, "" where it is a logo or no plain words."""
    if _LOGO.search(name) or name.endswith(("-thin", "-light")):
        return ""
    base = name
    while (shorter := _VARIANT.sub("", base)) != base:
        base = shorter
    return base if _WORDS.fullmatch(base) else ""


def _variants(origin: str, base: str, names: Sequence[str]) -> Iterator[Glyph]:
    icons = _read_icons(origin)
    filled = [name for name in names if name.endswith(("-fill", "-filled"))]
    plain = [name for name in names if name in (base, f"{base}-bold", f"{base}-outline")]
    also = _aliases(origin).get(base, ())
    words = base.replace("-", " ")
    for name in dict.fromkeys((*filled[:1], *plain[-1:], *(plain[:1] if not filled else ()))):
        icon = icons["icons"][name]
        yield Glyph(origin, words, also, icon["body"], _box(icon, icons), {"filled": name in filled})


@cache
def _read_icons(origin: str) -> Any:
    return _read(f"@iconify-json/{origin}/icons.json")


@cache
def _aliases(origin: str) -> Mapping[str, tuple[str, ...]]:
    """Other names of each concept, at most six."""
    found: dict[str, list[str]] = {}
    for alias, row in _read_icons(origin).get("aliases", {}).items():
        concept = _concept(alias)
        if concept and concept == alias and _concept(row["parent"]) == row["parent"]:
            found.setdefault(row["parent"], []).append(alias.replace("-", " "))
    return {name: tuple(words[:6]) for name, words in found.items()}


def _box(icon: Mapping[str, Any], icons: Mapping[str, Any]) -> tuple[float, float, float, float]:
    def size(key: str, default: float) -> float:
        return float(icon.get(key, icons.get(key, default)))

    return size("left", 0), size("top", 0), size("width", 16), size("height", 16)


# ---- drawing ---------------------------------------------------------------------------------------------


def style_avatars(style: str, count: int, seed: str, options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """{"svg", "extra"} for `count` avatars; `extra` names what was drawn."""
    arguments = ["node", "avatars.mjs", style, str(count), seed, json.dumps(options)]
    with subprocess.Popen(arguments, cwd=FOLDER, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise PackageError(f"drawing {style} failed with exit code {process.returncode}")


def rasterise(svgs: Iterable[str], size: int, into: Path) -> int:
    """Append premultiplied RGBA pictures [N, size, size, 4] to a file; how many they were. Raises PackageError."""
    before = into.stat().st_size if into.exists() else 0
    with into.open("ab") as file:
        process = subprocess.Popen(
            ["node", "rasterise.mjs", str(size)], cwd=FOLDER, stdin=subprocess.PIPE, stdout=file, text=True
        )
        assert process.stdin is not None
        for svg in svgs:
            process.stdin.write(json.dumps(svg) + "\n")
        process.stdin.close()
        if process.wait():
            raise PackageError(f"rasterising failed with exit code {process.returncode}")
    return (into.stat().st_size - before) // (4 * size**2)

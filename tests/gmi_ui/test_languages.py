"""The lists of words: every language says the same, and no text is listed that the page no longer has."""

import re
from pathlib import Path

import pytest

import gmi_ui
from gmi_ui import languages
from gmi_ui.components.head.functions import language_words

ROOT = Path(gmi_ui.__file__).parent
OTHERS = [code for code in languages.NAMES if code != languages.ENGLISH]
TOKEN = "0123456789abcdef" * 2
GRADIOS_OWN = {"number input for {}", "range slider for {}"}
IN_ENGINE = ("tasks", "families")


def said_in_sources() -> str:
    """All text of the page's sources, string literals over several lines joined."""
    engine = ROOT.parent / "engine"
    folders = (ROOT, *(engine / name for name in IN_ENGINE))
    paths = [path for folder in folders for kind in ("py", "js", "html") for path in folder.rglob(f"*.{kind}")]
    text = " ".join(path.read_text(encoding="utf-8") for path in sorted(paths))
    return re.sub(r'"\s+f?"', "", re.sub(r"\s+", " ", text))


@pytest.mark.parametrize("code", OTHERS)
def test_every_language_has_the_same_texts(code: str) -> None:
    words = languages.words_of(code)
    assert words.keys() == languages.words_of("de").keys()
    assert all(said.strip() == said and said for said in words.values())
    assert all(said.count("{}") == english.count("{}") for english, said in words.items())


@pytest.mark.parametrize("code", OTHERS)
def test_nothing_is_translated_twice(code: str) -> None:
    words = languages.words_of(code)
    assert [said for english, said in words.items() if said in words and said != english] == []


def test_what_is_listed_is_said_somewhere() -> None:
    sources = said_in_sources()
    listed = languages.words_of("de").keys() - GRADIOS_OWN
    forgotten = [text for text in listed if not all(part in sources for part in text.split("{}"))]
    assert forgotten == []


@pytest.mark.parametrize("code", ["en", "xx", "", "../de", "de.json"])
def test_other_names_have_no_list(code: str) -> None:
    assert languages.words_of(code) == {}


@pytest.mark.parametrize(
    "request_", [None, [], {"language": "de"}, {"token": TOKEN, "language": ["de"]}, {"token": TOKEN}]
)
def test_nonsense_gets_no_words(request_: object) -> None:
    assert language_words(request_) == {"words": {}}  # type: ignore[arg-type]


def test_a_page_gets_the_words_of_its_language() -> None:
    assert language_words({"token": TOKEN, "language": "de"})["words"]["Generate"] == "Erzeugen"

"""The page's texts in other languages: a file of each, English to what stands in its place.

{} stands for what changes in a text, such as a number. A text that no file has stays English. gradio's own I18n would
reach the labels of its components alone, and follow the browser's language only; half of the page is ours.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
ENGLISH = "en"
NAMES: Mapping[str, str] = {
    ENGLISH: "English",
    "de": "Deutsch",
    "fr": "Français",
    "es": "Español",
    "zh": "中文",
    "ja": "日本語",
}


@cache
def words_of(language: str) -> Mapping[str, str]:
    """What stands for each English text; nothing for English, and for a language that there is no file of."""
    if language not in NAMES or language == ENGLISH:
        return {}
    words: dict[str, str] = json.loads((_HERE / f"{language}.json").read_text(encoding="utf-8"))
    return words

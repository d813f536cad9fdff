"""Which language a prompt is written in, as far as that shows: prompt models read English alone. Needs no torch.

Other scripts show by their letters, languages in Latin letters by the small words that nearly every phrase has.
"""

import re
import unicodedata
from collections import Counter

_SCRIPTS = {
    "ARABIC": "Arabic script", "ARMENIAN": "Armenian", "BENGALI": "Bengali", "CJK": "Chinese characters",
    "CYRILLIC": "Cyrillic", "DEVANAGARI": "Devanagari", "ETHIOPIC": "Ethiopic", "GEORGIAN": "Georgian", "GREEK":
    "Greek", "GUJARATI": "Gujarati", "HANGUL": "Korean", "HEBREW": "Hebrew", "HIRAGANA": "Japanese", "KATAKANA":
    "Japanese", "KHMER": "Khmer", "TAMIL": "Tamil", "TELUGU": "Telugu", "THAI": "Thai",
}  # fmt: skip
_ENGLISH = frozenset(
    [
        "a", "an", "and", "at", "by", "for", "from", "his", "her", "in", "is", "it", "of", "off", "on", "or",
        "the", "their", "to", "wearing", "who", "with", "without",
    ]
)  # fmt: skip
_SMALL_WORDS = {
    "German": "ein eine einem einen einer eines der das dem den des und mit ohne auf im vor bei trägt für",
    "French": "un une des le la les du et avec sans dans sur au aux qui de",
    "Spanish": "un una unos unas el la los las y con sin en del que lleva de",
    "Italian": "un uno una il lo la gli e con senza del della nel che di",
    "Portuguese": "um uma uns umas o os as e com sem em do da no na que de",
    "Dutch": "een het en met zonder op van de die draagt",
    "Polish": "z ze i w na bez oraz",
    "Swedish": "en ett och med utan på som i",
    "Turkish": "bir ve ile olan",
}
_WORDS_OF = {language: frozenset(words.split()) for language, words in _SMALL_WORDS.items()}


def language_of(text: str) -> str | None:
    """The language or script that the text seems to be in; None for English, and for what does not show."""
    return _script_of(text) or _latin_language_of(text)


def _script_of(text: str) -> str | None:
    """Where most letters are not Latin: whose they are."""
    letters = [letter for letter in text if letter.isalpha()]
    found = Counter(unicodedata.name(letter, "").partition(" ")[0].partition("-")[0] for letter in letters)
    if not letters or 2 * found["LATIN"] >= len(letters):
        return None
    if found["HIRAGANA"] + found["KATAKANA"]:
        return "Japanese"
    (most, _), *_ = Counter({name: count for name, count in found.items() if name != "LATIN"}).most_common(1)
    return _SCRIPTS.get(most, "another script")


def _latin_language_of(text: str) -> str | None:
    """The language most of whose small words are there, if any is and English has fewer."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    counts = {language: sum(word in known for word in words) for language, known in _WORDS_OF.items()}
    most = max(counts.values())
    if most <= sum(word in _ENGLISH for word in words):
        return None
    return " or ".join(language for language, count in counts.items() if count == most)

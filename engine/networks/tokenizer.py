"""Texts to numbers: open_clip's own tokenizer, or one of the same kind with the words of files beside a model.

Those files, a tokenizer.json, or a vocab.json and a merges.txt, are read as data: the table of words and the pairs that
are merged, as OpenAI's CLIP has them. Nothing is looked up by a name that they say.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from engine.system.fields import (
    FieldError,
    anything,
    either,
    list_of,
    named,
    only,
    or_none,
    part_of,
    read_bytes,
    read_json,
    table,
    text,
    whole,
)

TOKENIZER_FILE = "tokenizer.json"
CLEANING = ("lower", "whitespace", "canonicalize")  # what may be done to a text first; the first one is usual

_MAX_FILE = 16 << 20
_MOST_WORDS = 1_000_000
_WORD_END = "</w>"
_BEGINS, _ENDS = ("<|startoftext|>", "<start_of_text>"), ("<|endoftext|>", "<end_of_text>")
_WORD = text(500)
_MODEL = part_of(
    {
        "type": only("BPE"),
        "end_of_word_suffix": only(_WORD_END),
        "continuing_subword_prefix": either(only(""), only(None)),
        "dropout": only(None),
        "byte_fallback": only(False),
        "vocab": named(whole(0, _MOST_WORDS), _WORD, _MOST_WORDS),
        "merges": list_of(either(list_of(_WORD, 2, 2), text(1000)), 0, _MOST_WORDS),
    }
)
_FILE = part_of(
    {"model": _MODEL, "added_tokens": list_of(part_of({"id": whole(0, _MOST_WORDS), "content": _WORD}), 0, 10_000)}
)

Tokenizer = Callable[[list[str]], Tensor]


def open_clip_tokenizer(length: int, vocabulary: int, clean: str) -> Tokenizer:
    """The one that comes with open_clip. Raises FieldError where the text tower knows fewer words."""
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer(context_length=length, clean=clean)
    if tokenizer.vocab_size > vocabulary:
        raise FieldError(
            f"its text tower knows {vocabulary:,} words, and open_clip's tokenizer {tokenizer.vocab_size:,}"
        )
    made: Tokenizer = tokenizer
    return made


def read_tokenizer(path: Path, length: int, vocabulary: int, clean: str) -> Tokenizer:
    """The tokenizer of a tokenizer.json. Raises FieldError for one of another kind, OSError if it cannot be read."""
    try:
        made: Tokenizer = _tokenizer(read_json(path, _MAX_FILE), length, vocabulary, clean)
        return made
    except FieldError as error:
        raise FieldError(f"of {path.name}, {error}; only byte pairs as CLIP has them are read") from error


def _tokenizer(values: Any, length: int, vocabulary: int, clean: str) -> Any:
    told = _FILE(values, "")
    model = told.get("model", {})
    for name in ("type", "vocab", "merges", "end_of_word_suffix"):
        if name not in model:
            raise FieldError(f"it lacks model.{name}")
    added = {token["content"]: token["id"] for token in told.get("added_tokens", ()) if len(token) == 2}
    return _with_words({**model["vocab"], **added}, model["merges"], length, vocabulary, clean)


def _with_words(
    words: Mapping[str, int], merges: Sequence[list[str] | str], length: int, vocabulary: int, clean: str
) -> Any:
    from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode

    pairs = [_pair(merge) for merge in merges]
    _check(words, pairs, vocabulary, bytes_to_unicode().values())
    tokenizer = SimpleTokenizer(context_length=length, clean=clean)
    tokenizer.encoder = dict(words)
    tokenizer.decoder = {number: word for word, number in words.items()}
    tokenizer.bpe_ranks = {pair: rank for rank, pair in enumerate(pairs)}
    tokenizer.cache = {}
    tokenizer.vocab_size = vocabulary
    tokenizer.sot_token_id, tokenizer.eot_token_id = _first(words, _BEGINS), _first(words, _ENDS)
    tokenizer.all_special_ids = [tokenizer.sot_token_id, tokenizer.eot_token_id]
    return tokenizer


def _pair(merge: list[str] | str) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if len(parts) != 2:
        raise FieldError("an entry of model.merges is no pair")
    return parts[0], parts[1]


def _check(words: Mapping[str, int], pairs: list[tuple[str, str]], vocabulary: int, letters: Any) -> None:
    """Every text can be written, with numbers that the text tower knows."""
    if len(set(words.values())) < len(words):
        raise FieldError("two of its words have one number")
    if max(words.values(), default=0) >= vocabulary:
        raise FieldError(
            f"a word has the number {max(words.values()):,}, and the text tower knows {vocabulary:,} words"
        )
    wanted = {*letters, *(letter + _WORD_END for letter in letters), *("".join(pair) for pair in pairs)}
    if missing := len(wanted - words.keys()):
        raise FieldError(f"it has no number for {missing:,} parts of words")


def _first(words: Mapping[str, int], names: tuple[str, ...]) -> int:
    found = next((words[name] for name in names if name in words), None)
    if found is None:
        raise FieldError(f"it has no word {names[0]}")
    return found


# ---- of text encoders that pad with a word of their own ---------------------------------------------------

VOCABULARY_FILE, MERGES_FILE = "vocab.json", "merges.txt"
SETTINGS_FILE, SPECIAL_FILE = "tokenizer_config.json", "special_tokens_map.json"
_USUAL_PAD = _ENDS[0]
_TABLE = table(
    {
        "vocab": named(whole(0, _MOST_WORDS), _WORD, _MOST_WORDS),
        "merges": list_of(text(1000), 0, _MOST_WORDS),
        "pad": _WORD,
    },
    needed=("vocab", "merges", "pad"),
)
_SETTINGS = part_of(
    {"pad_token": either(or_none(_WORD), part_of({"content": _WORD})), "added_tokens_decoder": anything}
)


class PaddedTokenizer:
    """Texts to as many tokens as asked for: the begin, the words, the end, and the padding."""

    def __init__(self, values: Any) -> None:
        """values: as `read_word_table` gives. Raises FieldError for others."""
        told = _TABLE(values, "")
        words: Mapping[str, int] = told["vocab"]
        self.vocabulary = max(words.values(), default=0) + 1
        self._pad_word, self._pad = told["pad"], _first(words, (told["pad"],))
        self._words = _with_words(words, told["merges"], 77, self.vocabulary, CLEANING[0])

    def __call__(self, text: str, length: int) -> list[int]:
        """`length` tokens; words that go beyond are left out, the end is not."""
        found = self._numbers(text)[: length - 2]
        whole = [self._words.sot_token_id, *found, self._words.eot_token_id]
        return whole + [self._pad] * (length - len(whole))

    def left_out(self, text: str, length: int) -> str:
        """The end of a text that so many tokens have no place for."""
        rest = self._numbers(text)[length - 2 :]
        return str(self._words.decode(rest)).strip() if rest else ""

    def _numbers(self, text: str) -> list[int]:
        """Of the words alone. What pads, such as "!", is a word of its own wherever it stands."""
        first, *others = (self._words.encode(part) for part in text.split(self._pad_word))
        return first + [number for part in others for number in (self._pad, *part)]


def read_word_table(folder: Path) -> dict[str, Any]:
    """What the files of a tokenizer's folder say: the words, the merges, and what pads.

    Raises FieldError for a tokenizer of another kind, OSError if a file cannot be read.
    """
    if (path := folder / TOKENIZER_FILE).is_file():
        told = _FILE(read_json(path, _MAX_FILE), "")
        model = told.get("model", {})
        added = {token["content"]: token["id"] for token in told.get("added_tokens", ()) if len(token) == 2}
        words = {**model.get("vocab", {}), **added}
        merges = [" ".join(_pair(merge)) for merge in model.get("merges", ())]
    else:
        words = named(whole(0, _MOST_WORDS), _WORD, _MOST_WORDS)(read_json(folder / VOCABULARY_FILE, _MAX_FILE), "")
        merges = _read_merges(folder / MERGES_FILE)
    made = {"vocab": words, "merges": merges, "pad": _pad_of(folder) or _USUAL_PAD}
    PaddedTokenizer(made)
    return made


def _pad_of(folder: Path) -> str | None:
    """What the settings say; where they list no tokens of their own, as older ones, the map of special tokens does."""
    told = [
        _SETTINGS(read_json(path, _MAX_FILE), "") if (path := folder / name).is_file() else {}
        for name in (SETTINGS_FILE, SPECIAL_FILE)
    ]
    settings, special = told
    first, other = (settings, special) if "added_tokens_decoder" in settings else (special, settings)
    pad = first.get("pad_token") or other.get("pad_token")
    return pad.get("content") if isinstance(pad, dict) else pad


def _read_merges(path: Path) -> list[str]:
    """The lines of pairs, without the version's line. Raises FieldError for what is no text."""
    try:
        lines = read_bytes(path, _MAX_FILE).decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise FieldError(f"{path.name} is no text in UTF-8") from error
    return [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#version")]

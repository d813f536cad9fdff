"""Texts to numbers: open_clip's own tokenizer, or one of the same kind with the words of a tokenizer.json.

A tokenizer.json is read as data: the table of words and the pairs that are merged, as OpenAI's CLIP has them. Nothing
is looked up by a name that it says.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from engine.system.fields import FieldError, either, list_of, named, only, part_of, read_json, text, whole

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
        return _tokenizer(read_json(path, _MAX_FILE), length, vocabulary, clean)
    except FieldError as error:
        raise FieldError(f"of {path.name}, {error}; only byte pairs as CLIP has them are read") from error


def _tokenizer(values: Any, length: int, vocabulary: int, clean: str) -> Tokenizer:
    from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode

    told = _FILE(values, "")
    model = told.get("model", {})
    for name in ("type", "vocab", "merges", "end_of_word_suffix"):
        if name not in model:
            raise FieldError(f"it lacks model.{name}")
    added = {token["content"]: token["id"] for token in told.get("added_tokens", ()) if len(token) == 2}
    words: Mapping[str, int] = {**model["vocab"], **added}
    pairs = [_pair(merge) for merge in model["merges"]]
    _check(words, pairs, vocabulary, bytes_to_unicode().values())
    tokenizer = SimpleTokenizer(context_length=length, clean=clean)
    tokenizer.encoder = dict(words)
    tokenizer.decoder = {number: word for word, number in words.items()}
    tokenizer.bpe_ranks = {pair: rank for rank, pair in enumerate(pairs)}
    tokenizer.cache = {}
    tokenizer.vocab_size = vocabulary
    tokenizer.sot_token_id, tokenizer.eot_token_id = _first(words, _BEGINS), _first(words, _ENDS)
    tokenizer.all_special_ids = [tokenizer.sot_token_id, tokenizer.eot_token_id]
    made: Tokenizer = tokenizer
    return made


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

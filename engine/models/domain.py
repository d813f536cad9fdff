"""What a prompt asks for that a model does not know, told before anything is drawn.

Two things are measured. Words: a prompt model of which most of the vocabulary was never trained gives all those words
one embedding, so it is known which it cannot read. Likeness: the largest cosine of the prompt with pictures like those
the generator was trained on, where its card says below which one a prompt asks for something else.
`python -m experiments.domains` prints how well both tell prompts of a domain from others.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from engine.models.languages import language_of

# Of the words that say something: from this share of unknown ones on, a prompt asks for something else.
UNKNOWN_SHARE = 0.5
_MOSTLY = 0.5  # of a vocabulary: where so much has one embedding, that is what untrained words have
_SMALL_WORDS = frozenset(
    [
        "a", "an", "and", "are", "as", "at", "by", "for", "from", "has", "have", "her", "his", "in", "is", "it",
        "its", "of", "off", "on", "or", "some", "someone", "something", "that", "the", "their", "there", "this",
        "to", "who", "with", "without",
    ]
)  # fmt: skip
_untrained: "WeakKeyDictionary[object, Tensor | None]" = WeakKeyDictionary()


class Generator(Protocol):
    """What is needed of `loading.GeneratorModel`."""

    @property
    def name(self) -> str: ...

    @property
    def domain(self) -> str: ...

    @property
    def domain_likeness(self) -> float | None: ...

    @property
    def references(self) -> Mapping[str, Tensor]: ...


class Reader(Protocol):
    """What is needed of `clip.PromptModel`."""

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    def text_features(self, texts: Sequence[str]) -> Tensor: ...


@dataclass(frozen=True)
class Doubt:
    """What is to be said of a prompt. is_outside: the pictures will hardly show it."""

    text: str
    is_outside: bool


def doubt(prompt: str, generator: Generator, prompt_model: Reader) -> Doubt | None:
    """What of the prompt the two models do not know; None where nothing is wrong as far as can be told."""
    if not prompt.strip():
        return None
    draws = f"{generator.name} draws {generator.domain}" if generator.domain else ""
    language = language_of(prompt)
    if language is not None and reads_english(prompt_model):
        return Doubt(f"This looks like {language}; {prompt_model.name} reads English. Write it in English.", True)
    unknown = unknown_words(prompt, prompt_model)
    if unknown and share_unknown(prompt, prompt_model) >= UNKNOWN_SHARE:
        what = f"{draws}; it does not know" if draws else f"{prompt_model.name} does not know"
        return Doubt(f"{what} {_listed(unknown)}.", True)
    if draws and generator.domain_likeness is not None:
        found = likeness(prompt, generator, prompt_model)
        if found is not None and found < generator.domain_likeness:
            return Doubt(f"{draws}; this seems to ask for something else.", True)
    if unknown:
        return Doubt(f"{prompt_model.name} does not know {_listed(unknown)} and reads the rest.", False)
    return None


def reads_english(prompt_model: Any) -> bool:
    """Whether it reads with CLIP's own tokens, which are those of English."""
    return type(getattr(prompt_model, "tokenizer", None)).__name__ == "SimpleTokenizer"


def unknown_words(prompt: str, prompt_model: Any) -> tuple[str, ...]:
    """The words that say something and that the prompt model was never trained on, each once."""
    untrained = _untrained_tokens(prompt_model)
    if untrained is None:
        return ()
    encode = prompt_model.tokenizer.encode
    return tuple(word for word in telling_words(prompt) if any(bool(untrained[token]) for token in encode(word)))


def share_unknown(prompt: str, prompt_model: Any) -> float:
    """Of the words that say something, the share that the prompt model does not know; 0 where there are none."""
    words = telling_words(prompt)
    return len(unknown_words(prompt, prompt_model)) / len(words) if words else 0.0


def telling_words(prompt: str) -> tuple[str, ...]:
    """The prompt's words in lower case, each once, without those that nearly every prompt has."""
    words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", prompt.lower())
    return tuple(dict.fromkeys(word for word in words if word not in _SMALL_WORDS))


def likeness(prompt: str, generator: Generator, prompt_model: Reader) -> float | None:
    """The largest cosine of the prompt with pictures like the generator's; None where this model never saw any."""
    references = generator.references.get(prompt_model.sha256)
    if references is None:
        return None
    text = prompt_model.text_features([prompt])[0]
    pictures = torch.nn.functional.normalize(references.to(text), dim=1)
    return float((pictures @ text).max())


def _untrained_tokens(prompt_model: Any) -> Tensor | None:
    """[vocabulary] bools: the tokens that share the one embedding of most; None where there is no such one."""
    if prompt_model not in _untrained:
        _untrained[prompt_model] = _find_untrained(prompt_model)
    return _untrained[prompt_model]


def _find_untrained(prompt_model: Any) -> Tensor | None:
    if not reads_english(prompt_model):
        return None
    network = prompt_model.network
    table = getattr(network, "token_embedding", None) or getattr(
        getattr(network, "text", None), "token_embedding", None
    )
    if table is None:
        return None
    rows = table.weight.detach()
    values, counts = rows[:, 0].unique(return_counts=True)
    if counts.max() < _MOSTLY * len(rows):
        return None
    candidates = rows[:, 0] == values[counts.argmax()]
    return (rows == rows[candidates][0]).all(1).cpu()


def _listed(words: Sequence[str], limit: int = 4) -> str:
    """“a”, “b” and “c”."""
    quoted = [f"“{word}”" for word in words[:limit]]
    if len(words) > limit:
        return f"{', '.join(quoted)} and {len(words) - limit} more"
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}" if len(quoted) > 1 else quoted[0]

"""What the bundled models say of prompts that they do not know, and of those that they do."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from engine.models.captions import CAPTIONS, caption_features
from engine.models.clip import PromptModel
from engine.models.domain import doubt, likeness, telling_words, unknown_words
from engine.models.languages import language_of
from engine.models.loading import GeneratorModel, load_generator, load_prompt_model
from engine.models.table import find_row, list_models
from experiments import domains
from experiments.prompts import elsewhere


@pytest.fixture(scope="module")
def avatars() -> tuple[GeneratorModel, PromptModel]:
    return load_generator("avatars"), load_prompt_model("clip-mini")


@pytest.fixture(scope="module")
def fashion() -> tuple[GeneratorModel, PromptModel]:
    return load_generator("fashion"), load_prompt_model("clip-mosaic")


def test_every_bundled_generator_says_what_it_draws() -> None:
    rows = [row for row in list_models() if row.kind == "generator"]
    assert len(rows) >= 4 and all(row.domain for row in rows)


def test_a_castle_is_named_with_what_avatars_draws(avatars: tuple[GeneratorModel, PromptModel]) -> None:
    told = doubt("a castle", *avatars)
    assert told is not None and told.is_outside
    assert told.text == f"avatars draws {avatars[0].domain}; it does not know “castle”."
    both = doubt("a Castle on a hill", *avatars)
    assert both is not None and both.text.endswith("it does not know “castle” and “hill”.")
    assert doubt("a woman with pink hair and sunglasses", *avatars) is None
    assert doubt("", *avatars) is None and doubt("123 !?", *avatars) is None


def test_one_unknown_word_among_known_ones_is_only_mentioned(avatars: tuple[GeneratorModel, PromptModel]) -> None:
    told = doubt("an old man with white hair and round glasses", *avatars)
    assert told is not None and not told.is_outside
    assert told.text == "clip-mini does not know “old” and reads the rest."


def test_what_looks_like_none_of_the_pictures_is_doubted(fashion: tuple[GeneratorModel, PromptModel]) -> None:
    assert doubt("a long dress", *fashion) is None
    told = doubt("a dog in a park", *fashion)
    assert told is not None and told.is_outside and "clothes, shoes and bags" in told.text
    assert likeness("a long dress", *fashion) > fashion[0].domain_likeness > likeness("a dog in a park", *fashion)  # type: ignore[operator]


@pytest.mark.parametrize("model", ["avatars", "fashion"])
def test_the_thresholds_part_a_domain_from_the_rest(model: str, request: pytest.FixtureRequest) -> None:
    """On the prompts that `experiments.domains` reports: nine in ten of others are doubted, one in ten of its own."""
    models = request.getfixturevalue(model)
    for name, texts in domains.sets_of(model).items():
        doubted = sum(bool((told := doubt(text, *models)) and told.is_outside) for text in texts) / len(texts)
        assert doubted <= 0.1 if name in ("tuning", "reporting") else doubted >= 0.9, name


@pytest.mark.parametrize(("language", "text"), [(name, text) for name, ts in elsewhere.FOREIGN.items() for text in ts])
def test_other_languages_are_known(language: str, text: str, avatars: tuple[GeneratorModel, PromptModel]) -> None:
    found = language_of(text)
    assert found is not None and language in found
    told = doubt(text, *avatars)
    assert told is not None and told.is_outside and f"looks like {found}; clip-mini reads English" in told.text


@pytest.mark.parametrize("model", domains.MODELS)
def test_short_prompts_in_other_languages_are_doubted(model: str) -> None:
    """Nine in ten of those without small words, whatever the prompt model was trained on."""
    prompt_model = load_prompt_model(find_row(model, "generator").prompt_model or "clip-mini")
    generator = load_generator(model)
    texts = domains.foreign()["other languages, short"]
    assert sum(bool(doubt(text, generator, prompt_model)) for text in texts) >= 0.9 * len(texts)
    assert sum(language_of(text) is not None for text in texts) >= 0.9 * len(texts)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("rote Katze", "German"), ("gato negro", "Spanish"), ("un perro rojo", "Spanish"), ("czarny kot", "Polish"),
        ("pa\u0301jaro", "Spanish"), ("pajaro", "Spanish"), ("a red van", None),
        ("one o'clock", None), ("dressed as a pirate", None), ("yin yang", None), ("fleur-de-lis", None),
        ("an e-mail", None), ("a mouse pad", None), ("", None), ("\u0301\u0301", None), ("e" * 5000, None),
    ],
)  # fmt: skip
def test_single_words_tell_a_language_and_english_ones_do_not(text: str, language: str | None) -> None:
    assert language_of(text) == language


def test_names_of_signs_are_english() -> None:
    """All names of Unicode's pictures: what emoji are asked for by."""
    names = [unicodedata.name(chr(code), "").lower() for code in (*range(0x1F300, 0x1FB00), *range(0x2600, 0x27C0))]
    taken = [name for name in names if language_of(name)]
    assert len(taken) < 0.002 * len(names) and all("ligature" in name for name in taken)


@pytest.mark.parametrize("model", domains.MODELS)
def test_english_is_taken_for_english(model: str) -> None:
    assert [text for texts in domains.sets_of(model).values() for text in texts if language_of(text)] == []
    assert language_of("a naïve man in a café, in die-cut style") is None


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """A prompt model with a tokenizer of its own, which may read any language."""

    name: str = "many"
    sha256: str = "0" * 64
    tokenizer: object = field(default_factory=object)

    def text_features(self, texts: Sequence[str]) -> Tensor:
        return torch.ones(len(texts), 2)


def test_nothing_is_said_of_what_is_not_known(avatars: tuple[GeneratorModel, PromptModel]) -> None:
    assert doubt("eine Burg", avatars[0], Elsewhere()) is None
    assert unknown_words("a castle", Elsewhere()) == () and likeness("a castle", avatars[0], Elsewhere()) is None


def test_words_are_told_once_and_without_those_that_every_prompt_has() -> None:
    assert telling_words("A castle, and the Castle's tower with a well-known t-shirt") == (
        "castle", "castle's", "tower", "well-known", "t-shirt",
    )  # fmt: skip


def test_captions_are_many_and_read_once(avatars: tuple[GeneratorModel, PromptModel]) -> None:
    assert len(set(CAPTIONS)) == len(CAPTIONS) == 100
    features = caption_features(avatars[1])
    assert features.shape == (100, 256) and caption_features(avatars[1]) is features

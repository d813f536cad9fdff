"""What tables are made of was not tuned on, and is not what training read."""

import random
from collections import Counter

import numpy as np
import pytest

from experiments import prompts
from experiments.prompts import reporting, tuning
from training.avatars import traits
from training.fashion import data as fashion
from training.mosaic import pool, words


def plain(text: str) -> frozenset[str]:
    """What a text says whatever its order, articles and case: two prompts of one meaning are one prompt."""
    return words.tokens(text)


def test_no_avatar_is_asked_for_in_both_splits() -> None:
    tuned, reported = tuning.AVATARS, reporting.AVATARS
    assert (len(tuned), len(reported)) == (20, 40)
    assert not {plain(prompt.text) for prompt in tuned} & {plain(prompt.text) for prompt in reported}
    wishes = [sorted(prompt.wanted.items()) for prompt in tuned]
    assert not [prompt.text for prompt in reported if sorted(prompt.wanted.items()) in wishes]


@pytest.mark.parametrize("prompt", [*tuning.AVATARS, *reporting.AVATARS], ids=lambda prompt: prompt.text)
def test_a_prompt_wants_what_there_is(prompt: prompts.Prompt) -> None:
    for group, values in prompt.wanted.items():
        assert set(values) <= set(traits.values_of(group))


def test_no_garment_is_asked_for_in_the_same_words_in_both_splits() -> None:
    assert not {plain(text) for text in tuning.FASHION} & {plain(text) for text in reporting.FASHION}
    for split in (tuning, reporting):
        assert Counter(split.FASHION.values()) == dict.fromkeys(fashion.CLASSES, 2)


def test_no_reported_garment_is_a_caption_of_the_training() -> None:
    """The captions of a class follow a small grammar: 3,000 of each class are nearly all of them."""
    facts = [{"source": "fashion", "class": number, "opaque": True} for number in range(len(fashion.CLASSES))]
    author = words.Author(pool.Pool([], facts, np.zeros((0, traits.SIZE), np.float32)))
    rng = random.Random(0)
    written = {
        plain(author.caption(row, pool.Look(), rng)[0].text) for row in range(len(facts)) for _ in range(3000)
    }  # fmt: skip
    assert plain("a photo of a handbag") in written
    assert not [text for text in reporting.FASHION if plain(text) in written]


def test_the_captions_of_mosaic_are_apart() -> None:
    tuned, others = prompts.mosaic_captions("tuning")
    reported, same = prompts.mosaic_captions("reporting")
    assert others == same and tuned.keys() == reported.keys() == set(pool.SOURCES)
    for source in pool.SOURCES:
        assert len(tuned[source]) == len(reported[source]) == 6
    parts = [[text for texts in split.values() for text in texts] for split in (tuned, reported)]
    told = [plain(text) for text in (*parts[0], *parts[1])]
    assert len({*parts[0], *parts[1], *others}) == len(parts[0]) + len(parts[1]) + len(set(others))
    assert not set(told[: len(parts[0])]) & set(told[len(parts[0]) :])

"""Prompts with alternatives and lists of them."""

import itertools
import random

import pytest

from engine.bulk.prompts import MOST_PROMPTS, alternatives, read_prompts, slug, split_prompts
from engine.settings import SettingsError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a hat", ["a hat"]),
        ("a {red|blue} hat", ["a red hat", "a blue hat"]),
        ("{a|b} {c|d}", ["a c", "a d", "b c", "b d"]),
        ("a {red|{light|dark} blue} hat", ["a red hat", "a light blue hat", "a dark blue hat"]),
        ("a {big |}hat", ["a big hat", "a hat"]),
        ("a {red} hat", ["a red hat"]),
        ("a {red|red} hat", ["a red hat"]),
        ("a | b", ["a | b"]),  # outside of braces it is a letter
        ("", [""]),
    ],
)
def test_alternatives_are_written_out_in_order(text: str, expected: list[str]) -> None:
    assert list(alternatives(text)) == expected


def test_groups_multiply() -> None:
    """As many prompts as the Cartesian product of random groups has, and the same ones."""
    draw = random.Random(1)
    for _ in range(20):
        words = iter(range(1000))
        groups = [[f"w{next(words)}" for _ in range(draw.randint(1, 4))] for _ in range(draw.randint(1, 4))]
        text = " ".join("{" + "|".join(group) + "}" for group in groups)
        assert list(alternatives(text)) == [" ".join(choice) for choice in itertools.product(*groups)]


@pytest.mark.parametrize("text", ["a {red hat", "a red} hat", "{a|{b}", "}{"])
def test_braces_have_to_match(text: str) -> None:
    with pytest.raises(SettingsError, match=r"prompt: .*without its"):
        alternatives(text)


def test_there_are_not_too_many() -> None:
    with pytest.raises(SettingsError, match="more than 1,000"):
        alternatives("{a|b}" * 11)
    assert len(alternatives("{a|b|c|d}{a|b|c|d}{a|b|c|d}{a|b|c|d}")) == 256 < MOST_PROMPTS


def test_a_file_has_one_prompt_a_line() -> None:
    text = "# hats\n\na {red|blue} hat\n  a sad man  \na red hat\n"
    assert read_prompts(text) == ("a red hat", "a blue hat", "a sad man")
    with pytest.raises(SettingsError, match="there are none"):
        read_prompts("# nothing\n\n")
    with pytest.raises(SettingsError, match=r"Line 2\."):
        read_prompts("a hat\na {hat\n")


def test_prompts_are_divided_outside_of_braces() -> None:
    assert split_prompts("a {red|blue} hat | a sad man, tired") == ("a red hat", "a blue hat", "a sad man, tired")


def test_slugs_are_names_of_files() -> None:
    assert slug('A "Red" hat / 2!') == "a-red-hat-2" and slug("...") == "picture" and len(slug("a " * 99)) <= 48

"""Sixty prompts of one to three attributes and the values they ask for; 20 to tune with, 40 to report."""

from collections.abc import Mapping
from typing import NamedTuple


class Prompt(NamedTuple):
    """`wanted`: the allowed values of every requested group."""

    text: str
    wanted: Mapping[str, tuple[str, ...]]


def _prompt(text: str, **wanted: str) -> Prompt:
    return Prompt(text, {group: tuple(values.split("|")) for group, values in wanted.items()})


TUNING = (
    _prompt("a woman with pink hair and sunglasses", person="woman", hair_colour="pink", glasses="sunglasses"),
    _prompt("a man with a beard", person="man", facial_hair="beard"),
    _prompt("a person wearing a red cap", hat="cap", hat_colour="red"),
    _prompt("someone with a green mohawk", hair_style="mohawk", hair_colour="green"),
    _prompt("a sad man in a suit", mouth="sad", person="man", clothes="suit"),
    _prompt("round glasses and a big smile", glasses="round", mouth="big smile"),
    _prompt("a dark-skinned woman with an afro", skin="dark", person="woman", hair_style="afro"),
    _prompt("a person in a yellow hoodie", clothes="hoodie", clothes_colour="yellow"),
    _prompt("a bald man without a beard", hair_style="bald", person="man", facial_hair="none|moustache"),
    _prompt("a winking girl on a blue background", eyes="wink", person="woman", background="blue"),
    _prompt("a face with closed eyes", eyes="closed"),
    _prompt("a surprised person with blue hair", mouth="surprised", hair_colour="blue"),
    _prompt(
        "a lady with long straight blonde hair",
        person="woman",
        hair_style="long straight",
        hair_colour="blonde",
    ),
    _prompt("a guy with a moustache and square glasses", person="man", facial_hair="moustache", glasses="square"),
    _prompt("a person with a black top hat", hat="top hat", hat_colour="black"),
    _prompt(
        "a woman with a bun and a striped sweater",
        person="woman",
        hair_style="bun",
        clothes="striped sweater",
    ),
    _prompt("pale skin and red hair", skin="pale", hair_colour="red"),
    _prompt("a man in a white t-shirt", person="man", clothes="t-shirt", clothes_colour="white"),
    _prompt("a person with purple pigtails", hair_style="pigtails", hair_colour="purple"),
    _prompt(
        "a serious woman wearing a green beanie",
        mouth="neutral",
        person="woman",
        hat="beanie",
        hat_colour="green",
    ),
)
REPORTING = (
    _prompt("a woman with sunglasses", person="woman", glasses="sunglasses"),
    _prompt("a man with a goatee", person="man", facial_hair="goatee"),
    _prompt("a person with spiky hair", hair_style="spiky"),
    _prompt("a blue beanie", hat="beanie", hat_colour="blue"),
    _prompt("a person with a big smile", mouth="big smile"),
    _prompt("a person with pink hair", hair_colour="pink"),
    _prompt("a dark-skinned man", skin="dark", person="man"),
    _prompt("a woman on a purple background", person="woman", background="purple"),
    _prompt("a person in an orange striped sweater", clothes="striped sweater", clothes_colour="orange"),
    _prompt("a gentleman with a top hat and a moustache", person="man", hat="top hat", facial_hair="moustache"),
    _prompt("a girl with blue pigtails", person="woman", hair_style="pigtails", hair_colour="blue"),
    _prompt("a bearded man with glasses", person="man", facial_hair="beard", glasses="round|square"),
    _prompt("a frowning woman", mouth="sad", person="woman"),
    _prompt("someone with one eye closed", eyes="wink"),
    _prompt("a person wearing a tank top", clothes="tank top"),
    _prompt("a man with a green cap and no beard", person="man", hat="cap", hat_colour="green"),
    _prompt("a bald person with round glasses", hair_style="bald", glasses="round"),
    _prompt("an old lady with white hair in a bun", person="woman", hair_style="bun", hair_colour="white"),
    _prompt("long wavy brown hair", hair_style="long wavy", hair_colour="brown"),
    _prompt("a man in a black suit and tie", person="man", clothes="suit", clothes_colour="black"),
    _prompt("an astonished woman with red hair", mouth="surprised", person="woman", hair_colour="red"),
    _prompt("a tanned person with a side parting", skin="tan", hair_style="side part"),
    _prompt("a woman with wide open eyes", person="woman", eyes="wide"),
    _prompt("a green background and a red hoodie", background="green", clothes="hoodie", clothes_colour="red"),
    _prompt("a boy with short black hair", person="man", hair_style="short", hair_colour="black"),
    _prompt("a clean shaven man with grey hair", person="man", facial_hair="none", hair_colour="grey"),
    _prompt("a person with a purple mohawk and a smile", hair_style="mohawk", hair_colour="purple", mouth="smile|big smile"),
    _prompt("a woman with a blonde bob", person="woman", hair_style="bob", hair_colour="blonde"),
    _prompt("an avatar with closed eyes on a pink background", eyes="closed", background="pink"),
    _prompt("a curly-haired man", person="man", hair_style="curly"),
    _prompt("a pale woman with black hair", skin="pale", person="woman", hair_colour="black"),
    _prompt("a person in a blue shirt", clothes="shirt", clothes_colour="blue"),
    _prompt("a yellow hat", hat="cap|beanie|top hat", hat_colour="yellow"),
    _prompt("a serious man with square glasses", mouth="neutral", person="man", glasses="square"),
    _prompt("a laughing person with an afro", mouth="big smile", hair_style="afro"),
    _prompt("a brown-skinned woman in a pink t-shirt", skin="brown", person="woman", clothes="t-shirt", clothes_colour="pink"),
    _prompt("a guy without glasses wearing a hoodie", person="man", glasses="none", clothes="hoodie"),
    _prompt("grey background, sunglasses", background="grey", glasses="sunglasses"),
    _prompt("a person without a hat and with green hair", hat="none", hair_colour="green"),
    _prompt("a happy woman with long hair", mouth="smile|big smile", person="woman", hair_style="long straight|long wavy"),
)  # fmt: skip

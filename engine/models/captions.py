"""How well pictures fit a prompt, as a share of random captions that fit them worse: 0 is none of them, 1 all.

A cosine of two prompt models means two things; a place among the same captions means one. The captions are those of
held-out pictures of people, emoji, icons and clothes, 20 of each of five sources (`experiments/prompts/mosaic.json`).
"""

from collections.abc import Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

AT_ONCE = 50
CAPTIONS = (
    "a picture of a man in a red shirt",
    "an illustration of a man, with no hat and facial hair",
    "portrait of an avatar with facial hair and a smile",
    "an illustration of a character with red hair and yellow clothes",
    "a bright blue hat",
    "an illustration of an avatar in a black hat with a wide grin",
    "a cartoon, with no shades, no cap and gray hair",
    "a woman, with no facial hair, bob hair with bangs without a cap",
    "an illustration of a male",
    "a smiling human whose hair is blue without a beard, with sunglasses",
    "in green clothes, no shades",
    "portrait of man shocked wearing green, with brown skin",
    "a cartoon of a person, wearing bright pink and clear glasses",
    "a picture of a female wearing red with a bob",
    "huge eyes",
    "no beard, without shades",
    "a photo of a woman in yellow clothes, with no facial hair",
    "a cartoon, with bob hair with bangs not wearing a cap",
    "a portrait of a winking woman",
    "a drawing of a character with bunches",
    "a character with green clothes, with a blue background",
    "an avatar of pixel art with a hat",
    "an avatar of a square emoji face with a blonde face",
    "a face",
    "a flat illustration of a person",
    "pixel art with a sad mouth",
    "a line drawing of a person with facial hair, with a purple background",
    "a portrait of a doodle of a person with no hair",
    "an avatar of a round cartoon person with closed eyes",
    "a pixel art person",
    "an ink drawing of a face with a orange background",
    "a flat cartoon person",
    "an ink drawing of a person, in front of a white wall",
    "a portrait of a character with glasses",
    "a sketched person with blue clothes",
    "a person with yellow clothes and no hair",
    "an 8-bit character with long hair, in front of a brown wall",
    "a cartoon portrait",
    "a line drawing of a person with glasses",
    "a portrait of a colourful smiley face with a yellow face",
    "an emoji of a palms up together with a white background",
    "a picture of an airplane arrival",
    "an emoji of woman kneeling",
    "woman swimming with a white background",
    "a glasses emoji on a blue background",
    "a moon emoji in front of a green wall",
    "a billed cap",
    "a briefcase",
    "a white small square, white red background",
    "a flipper in front of a black wall",
    "a picture of an outdoors",
    "an emoji of a record on a orange background",
    "an emoji of a manual wheelchair",
    "leo emoji",
    "a horse symbol",
    "a picture of a firecracker",
    "a picture of a cherries",
    "a luxurious with a green background",
    "hamster",
    "heels",
    "a shape icon",
    "a blue translate, white background",
    "a download sign",
    "a pictogram of a crop",
    "a pictogram of a black trash",
    "an icon of black ungroup on a green background",
    "a pictogram of an arrow compass",
    "an user shield icon",
    "an icon of a broadcast with a purple background",
    "a cloud cancel icon",
    "a pictogram of a pinwheel with a brown background",
    "a yellow calendar check icon on white",
    "an icon of an orange unsecure",
    "a cash minus icon",
    "an orange microwave off icon",
    "an icon of download on white",
    "a pictogram of a fish",
    "a yellow pipe wrench icon",
    "a movie off, slate off icon",
    "a red engine icon",
    "a black and white photo of overcoat",
    "a photo of a sweater",
    "a product photo of open sandal",
    "a pair of pants on black",
    "a t-shirt",
    "a black and white photo of a button-up shirt",
    "a running shoe in grey",
    "a high-heeled sandal",
    "a photo of a blouse",
    "a picture of a coat",
    "a grey photo of a sandal",
    "a product photo of a running shoe",
    "a picture of shirt",
    "gown",
    "an overcoat in grey",
    "a jumper",
    "a pair of boots",
    "an overcoat",
    "a sweater",
    "a black and white photo of a bag",
)


class Reader(Protocol):
    """What is needed of `clip.PromptModel`."""

    def text_features(self, texts: Sequence[str]) -> Tensor: ...


_kept: "WeakKeyDictionary[Reader, Tensor]" = WeakKeyDictionary()


def caption_features(prompt_model: Reader) -> Tensor:
    """Features of all captions, [M, D] of length 1. Kept as long as the model: large ones take seconds for them."""
    if prompt_model not in _kept:
        parts = [prompt_model.text_features(CAPTIONS[i : i + AT_ONCE]) for i in range(0, len(CAPTIONS), AT_ONCE)]
        _kept[prompt_model] = torch.cat(parts)
    return _kept[prompt_model]

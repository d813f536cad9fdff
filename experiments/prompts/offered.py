"""What the examples that the page offers ask for: the judges count whether pictures show it.

A test compares the texts with those in the models' `model.json`.
"""

from experiments.prompts import asking

AVATARS = (
    asking("a woman with pink hair and sunglasses", person="woman", hair_colour="pink", glasses="sunglasses"),
    asking("a bearded man in a suit", facial_hair="beard", person="man", clothes="suit"),
    asking("a person with a green mohawk", hair_style="mohawk", hair_colour="green"),
    asking(
        "a smiling woman with a red hat",
        mouth="smile|big smile",
        person="woman",
        hat="cap|beanie|top hat",
        hat_colour="red",
    ),
    asking("an old man with white hair and round glasses", person="man", hair_colour="white", glasses="round"),
    asking(
        "a surprised girl with blue pigtails",
        mouth="surprised",
        person="woman",
        hair_style="pigtails",
        hair_colour="blue",
    ),
    asking(
        "a person in a yellow hoodie on a purple background",
        clothes="hoodie",
        clothes_colour="yellow",
        background="purple",
    ),
)

# The class that each asks for.
FASHION = {
    "a pair of ankle boots": "ankle boot",
    "a long dress": "dress",
    "a handbag": "bag",
    "a warm coat": "coat",
    "a sneaker": "sneaker",
    "wide trousers": "trousers",
    "a striped shirt": "shirt",
}

# The second prompt model compares them with other captions.
MOSAIC = (
    "a red heart",
    "a cat face",
    "a pizza",
    "a pixel art person with glasses",
    "a blue house icon on a yellow background",
    "a woman with pink hair",
    "a pair of ankle boots",
    "a black and white portrait with a beard",
    "a smiling sun",
)

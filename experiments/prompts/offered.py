"""What the examples that the page offers ask for: the judges count whether pictures show it.

A test compares the texts with those in the models' `model.json`.
"""

from experiments.prompts import asking

AVATARS = (
    asking("a woman with pink hair and a big smile", person="woman", hair_colour="pink", mouth="big smile"),
    asking("a sad man with glasses", mouth="sad", person="man", glasses="round|square"),
    asking("a person with a green mohawk", hair_style="mohawk", hair_colour="green"),
    asking("a pirate with an eyepatch", eyepatch="eyepatch"),
    asking("a bearded man with glasses", facial_hair="beard", person="man", glasses="round|square"),
    asking("a man with grey hair and round glasses", person="man", hair_colour="grey", glasses="round"),
    asking("a surprised person with blue hair", mouth="surprised", hair_colour="blue"),
    asking("a person in a yellow hoodie", clothes="hoodie", clothes_colour="yellow"),
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
    "a woman with pink hair",
    "a pair of ankle boots",
    "a black and white portrait with a beard",
)
EMBLEMS = (
    "a cat",
    "a red star icon on a yellow background",
    "a rocket emoji",
    "a pizza on a blue background",
    "a woman with pink hair and sunglasses",
    "a house",
    "a man with a beard and a green hat",
    "a snowman",
)

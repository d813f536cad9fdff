"""Prompts to choose settings on. Tables of the README report none of them."""

from experiments.prompts import asking

# Sorts of avatars, one to four attributes each.
AVATARS = (
    asking("a woman with pink hair and sunglasses", person="woman", hair_colour="pink", glasses="sunglasses"),
    asking("a man with a beard", person="man", facial_hair="beard"),
    asking("a person wearing a red cap", hat="cap", hat_colour="red"),
    asking("someone with a green mohawk", hair_style="mohawk", hair_colour="green"),
    asking("a sad man in a suit", mouth="sad", person="man", clothes="suit"),
    asking("round glasses and a big smile", glasses="round", mouth="big smile"),
    asking("a dark-skinned woman with an afro", skin="dark", person="woman", hair_style="afro"),
    asking("a person in a yellow hoodie", clothes="hoodie", clothes_colour="yellow"),
    asking("a bald man without a beard", hair_style="bald", person="man", facial_hair="none|moustache"),
    asking("a winking girl on a blue background", eyes="wink", person="woman", background="blue"),
    asking("a face with closed eyes", eyes="closed"),
    asking("a surprised person with blue hair", mouth="surprised", hair_colour="blue"),
    asking(
        "a lady with long straight blonde hair",
        person="woman",
        hair_style="long straight",
        hair_colour="blonde",
    ),
    asking("a guy with a moustache and square glasses", person="man", facial_hair="moustache", glasses="square"),
    asking("a person with a black top hat", hat="top hat", hat_colour="black"),
    asking(
        "a woman with a bun and a striped sweater",
        person="woman",
        hair_style="bun",
        clothes="striped sweater",
    ),
    asking("pale skin and red hair", skin="pale", hair_colour="red"),
    asking("a man in a white t-shirt", person="man", clothes="t-shirt", clothes_colour="white"),
    asking("a person with purple pigtails", hair_style="pigtails", hair_colour="purple"),
    asking(
        "a serious woman wearing a green beanie",
        mouth="neutral",
        person="woman",
        hat="beanie",
        hat_colour="green",
    ),
)

# The class that each asks for: every class in its own name and in other words.
FASHION = {
    "a pair of ankle boots": "ankle boot",
    "winter boots": "ankle boot",
    "a long dress": "dress",
    "a summer gown": "dress",
    "a bag": "bag",
    "a handbag": "bag",
    "a warm coat": "coat",
    "a winter jacket": "coat",
    "a sneaker": "sneaker",
    "a pair of running shoes": "sneaker",
    "wide trousers": "trousers",
    "a pair of pants": "trousers",
    "a pullover": "pullover",
    "a warm sweater": "pullover",
    "a sandal": "sandal",
    "open sandals with a heel": "sandal",
    "a plain T-shirt": "T-shirt",
    "a short-sleeved tee": "T-shirt",
    "a shirt with buttons": "shirt",
    "a striped shirt": "shirt",
}

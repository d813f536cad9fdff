"""Prompts that no setting was chosen on: those of the README's tables.

What they may share with training are words: clip-mini and clip-mosaic learned to read from captions of the same
words, of other pictures. The whole of a prompt for fashion is no caption of theirs.
"""

from experiments.prompts import asking

# Sorts of avatars, one to three attributes each.
AVATARS = (
    asking("a woman with sunglasses", person="woman", glasses="sunglasses"),
    asking("a man with a goatee", person="man", facial_hair="goatee"),
    asking("a person with spiky hair", hair_style="spiky"),
    asking("a blue beanie", hat="beanie", hat_colour="blue"),
    asking("a person with a big smile", mouth="big smile"),
    asking("a person with pink hair", hair_colour="pink"),
    asking("a dark-skinned man", skin="dark", person="man"),
    asking("a woman on a purple background", person="woman", background="purple"),
    asking("a person in an orange striped sweater", clothes="striped sweater", clothes_colour="orange"),
    asking("a gentleman with a top hat and a moustache", person="man", hat="top hat", facial_hair="moustache"),
    asking("a girl with blue pigtails", person="woman", hair_style="pigtails", hair_colour="blue"),
    asking("a bearded man with glasses", person="man", facial_hair="beard", glasses="round|square"),
    asking("a frowning woman", mouth="sad", person="woman"),
    asking("someone with one eye closed", eyes="wink"),
    asking("a person wearing a tank top", clothes="tank top"),
    asking("a man with a green cap and no beard", person="man", hat="cap", hat_colour="green"),
    asking("a bald person with round glasses", hair_style="bald", glasses="round"),
    asking("an old lady with white hair in a bun", person="woman", hair_style="bun", hair_colour="white"),
    asking("long wavy brown hair", hair_style="long wavy", hair_colour="brown"),
    asking("a man in a black suit and tie", person="man", clothes="suit", clothes_colour="black"),
    asking("an astonished woman with red hair", mouth="surprised", person="woman", hair_colour="red"),
    asking("a tanned person with a side parting", skin="tan", hair_style="side part"),
    asking("a woman with wide open eyes", person="woman", eyes="wide"),
    asking("a green background and a red hoodie", background="green", clothes="hoodie", clothes_colour="red"),
    asking("a boy with short black hair", person="man", hair_style="short", hair_colour="black"),
    asking("a clean shaven man with grey hair", person="man", facial_hair="none", hair_colour="grey"),
    asking("a person with a purple mohawk and a smile", hair_style="mohawk", hair_colour="purple", mouth="smile|big smile"),
    asking("a woman with a blonde bob", person="woman", hair_style="bob", hair_colour="blonde"),
    asking("an avatar with closed eyes on a pink background", eyes="closed", background="pink"),
    asking("a curly-haired man", person="man", hair_style="curly"),
    asking("a pale woman with black hair", skin="pale", person="woman", hair_colour="black"),
    asking("a person in a blue shirt", clothes="shirt", clothes_colour="blue"),
    asking("a yellow hat", hat="cap|beanie|top hat", hat_colour="yellow"),
    asking("a serious man with square glasses", mouth="neutral", person="man", glasses="square"),
    asking("a laughing person with an afro", mouth="big smile", hair_style="afro"),
    asking("a brown-skinned woman in a pink t-shirt", skin="brown", person="woman", clothes="t-shirt", clothes_colour="pink"),
    asking("a guy without glasses wearing a hoodie", person="man", glasses="none", clothes="hoodie"),
    asking("grey background, sunglasses", background="grey", glasses="sunglasses"),
    asking("a person without a hat and with green hair", hat="none", hair_colour="green"),
    asking("a happy woman with long hair", mouth="smile|big smile", person="woman", hair_style="long straight|long wavy"),
)  # fmt: skip

# Sorts of avatars that are rarely drawn, at most one in twenty.
RARE = (
    asking("a pirate", eyepatch="eyepatch"),
    asking("a woman with an eyepatch and red hair", person="woman", eyepatch="eyepatch", hair_colour="red"),
    asking("a bearded man wearing a turban", person="man", facial_hair="beard", turban="turban"),
    asking("a person in a yellow turban", turban="turban", hat_colour="yellow"),
    asking("a smiling woman in a blue hijab", person="woman", headscarf="headscarf", hat_colour="blue", mouth="smile|big smile"),
    asking("a girl with a headscarf and round glasses", person="woman", headscarf="headscarf", glasses="round"),
    asking("a person with their tongue out", tongue="tongue"),
    asking("a cheeky boy sticking his tongue out", person="man", tongue="tongue"),
    asking("a person with hearts for eyes", heart_eyes="heart_eyes"),
    asking("a woman in love, with heart eyes and pink hair", person="woman", heart_eyes="heart_eyes", hair_colour="pink"),
)  # fmt: skip

# The class that each asks for, in words that the tuning prompts do not use together.
FASHION = {
    "leather boots up to the ankle": "ankle boot",
    "a bootie with a zip": "ankle boot",
    "a sleeveless dress for a party": "dress",
    "an evening gown": "dress",
    "a purse with a handle": "bag",
    "a big shoulder bag": "bag",
    "an overcoat with a collar": "coat",
    "a jacket for cold days": "coat",
    "white trainers for the gym": "sneaker",
    "a sports shoe with laces": "sneaker",
    "slacks for the office": "trousers",
    "long black trousers": "trousers",
    "a jumper of wool": "pullover",
    "a grey sweatshirt with long sleeves": "pullover",
    "strappy sandals for the summer": "sandal",
    "a high-heeled sandal for the evening": "sandal",
    "a tee for the beach": "T-shirt",
    "a t-shirt with short sleeves": "T-shirt",
    "a blouse for work": "shirt",
    "a button-up shirt with a collar": "shirt",
}

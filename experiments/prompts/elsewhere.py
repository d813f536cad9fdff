"""Prompts for things that neither avatars nor fashion draws."""

WORDS = tuple(
    f"a {word}"
    for word in [
        "castle", "dog", "car", "mountain", "guitar", "bicycle", "tree", "airplane", "ship", "pizza", "cat",
        "house", "river", "bridge", "elephant", "train", "robot", "dragon", "laptop", "banana", "chair", "lamp",
        "clock", "horse", "bird", "flower", "beach", "city", "forest", "cake", "sword", "spaceship", "tractor",
        "volcano", "piano",
    ]
)  # fmt: skip
SENTENCES = (
    "a castle on a hill",
    "a dog in a park",
    "a red sports car",
    "mountains at sunset",
    "an astronaut riding a horse",
    "a bowl of fruit",
    "a city at night",
    "two cats on a sofa",
    "a plate of pasta",
    "the eiffel tower",
    "a sailing boat on the sea",
    "a photo of a forest",
)
FOREIGN = {
    "German": ("eine Frau mit roten Haaren", "ein Mann mit Bart und Brille", "ein langes Kleid"),
    "French": ("une femme avec des lunettes", "un homme avec un chapeau rouge", "une robe sans manches"),
    "Spanish": ("una mujer con el pelo rojo", "un hombre con gafas y barba", "unas botas de cuero"),
    "Italian": ("una donna che sorride con gli occhiali", "il cappello della donna", "uno stivale nero e bianco"),
    "Portuguese": ("uma mulher com cabelo rosa", "um homem com barba", "um vestido longo"),
    "Dutch": ("een vrouw met rood haar", "een man met een baard", "een lange jurk en een tas"),
    "Cyrillic": ("женщина с розовыми волосами", "мужчина в шляпе"),
    "Chinese characters": ("粉色头发的女人", "戴帽子的男人"),
    "Japanese": ("ピンクの髪の女性", "帽子をかぶった男"),
    "Korean": ("분홍색 머리의 여자", "모자를 쓴 남자"),
}

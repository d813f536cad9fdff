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
# Short ones that have no small words, and languages that share those of another. Written after the words of
# `engine.models.languages` were, and no word was added for them.
FOREIGN_SHORT = {
    "German": (
        "rote Katze", "lachender Hund", "trauriges Gesicht", "blaues Auto", "goldene Krone", "Mädchen, kurze Haare",
        "Piratenschiff", "alter Mann mit Hut", "Regenbogen", "schwarze Stiefel",
    ),
    "French": (
        "chat noir", "visage souriant", "voiture bleue", "bateau pirate", "cheveux roses", "vieil homme triste",
        "chaussures noires", "femme blonde", "arc-en-ciel", "un sac jaune",
    ),
    "Spanish": (
        "gato negro", "cara feliz", "barco pirata", "mujer rubia", "pelo corto y rosa", "zapatos rojos",
        "hombre viejo", "perro con gafas", "corazón rojo", "corona dorada",
    ),
    "Italian": (
        "gatto nero", "faccina sorridente", "nave dei pirati", "capelli rosa", "scarpe rosse", "uomo triste",
        "ragazza bionda", "cane con occhiali", "cuore rosso", "una borsa gialla",
    ),
    "Portuguese": (
        "gato preto", "rosto feliz", "navio pirata", "cabelo rosa", "sapatos vermelhos", "homem triste",
        "menina loira", "cachorro de óculos", "coração vermelho", "bolsa amarela",
    ),
    "Dutch": (
        "zwarte kat", "lachend gezicht", "piratenschip", "roze haar", "rode schoenen", "verdrietige oude man",
        "blond meisje", "hond met bril", "rood hart", "gele tas",
    ),
    "Polish": (
        "czarny kot", "uśmiechnięta twarz", "statek piracki", "różowe włosy", "czerwone buty", "smutny mężczyzna",
        "dziewczyna w okularach", "żółta torba",
    ),
    "Swedish": (
        "svart katt", "leende ansikte", "rosa hår", "röda skor", "ledsen gammal man", "flicka med glasögon",
        "gul väska", "rött hjärta",
    ),
    "Danish or Norwegian": (
        "sort hund", "smilende ansigt", "pige med briller", "røde sko", "gammel mann med skjegg", "gul taske",
        "rødt hjerte",
    ),
    "Finnish": (
        "musta kissa", "hymyilevä kasvo", "punaiset kengät", "surullinen vanha mies", "tyttö ja silmälasit",
        "keltainen laukku",
    ),
    "Czech": (
        "černá kočka", "usměvavá tvář", "červené boty", "smutný starý muž", "dívka s brýlemi", "žlutá taška",
    ),
    "Hungarian": (
        "fekete macska", "mosolygó arc", "piros cipő", "szomorú öreg férfi", "szemüveges lány", "sárga táska",
    ),
    "Romanian": (
        "pisică neagră", "față zâmbitoare", "pantofi roșii", "bătrân trist", "fată cu ochelari", "geantă galbenă",
    ),
    "Turkish": (
        "siyah kedi", "gülümseyen yüz", "kırmızı ayakkabı", "üzgün yaşlı adam", "gözlüklü kız", "sarı çanta",
    ),
    "Indonesian": (
        "kucing hitam", "wajah tersenyum", "sepatu merah", "pria tua sedih", "gadis berkacamata", "tas kuning",
    ),
    "Vietnamese": (
        "mèo đen", "khuôn mặt cười", "giày đỏ", "ông già buồn", "cô gái đeo kính", "túi vàng",
    ),
}  # fmt: skip

"""Which language a prompt is written in, as far as that shows: prompt models read English alone. Needs no torch.

Other scripts show by their letters, languages in Latin letters by the small words that nearly every phrase has, and by
the words for what pictures show most.
"""

import re
import unicodedata
from collections import Counter
from functools import cache

_SCRIPTS = {
    "ARABIC": "Arabic script", "ARMENIAN": "Armenian", "BENGALI": "Bengali", "CJK": "Chinese characters",
    "CYRILLIC": "Cyrillic", "DEVANAGARI": "Devanagari", "ETHIOPIC": "Ethiopic", "GEORGIAN": "Georgian", "GREEK":
    "Greek", "GUJARATI": "Gujarati", "HANGUL": "Korean", "HEBREW": "Hebrew", "HIRAGANA": "Japanese", "KATAKANA":
    "Japanese", "KHMER": "Khmer", "TAMIL": "Tamil", "TELUGU": "Telugu", "THAI": "Thai",
}  # fmt: skip
_ENGLISH_WORDS = """
    a an and are as at be by do for from has have he her his i in is it its me my no not o of off on or out she that
    the their to up van wearing who with without you woman man girl boy person child face hair eyes glasses
    sunglasses beard mustache moustache smile smiling hat cap dress shirt trousers shoe shoes boots jacket coat
    skirt bag sweater earrings necklace dog cat bird fish horse mouse bear house tree flower sun moon star heart
    apple cake bread car bicycle ship boat plane train castle mountain book fire water happy sad old young small
    large big long short red blue green yellow black white brown grey gray pink purple orange picture photo drawing
    icon emoji portrait cartoon avatar background
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_SMALL_WORDS = {
    "German": "ein eine einem einen einer eines der das dem den des und mit ohne auf im vor bei trägt für",
    "French": "un une des le la les du et avec sans dans sur au aux qui de",
    "Spanish": "un una unos unas el la los las y con sin en del que lleva de",
    "Italian": "un uno una il lo la gli e con senza del della nel che di",
    "Portuguese": "um uma uns umas o os as e com sem em do da no na que de",
    "Dutch": "een het en zonder op van de draagt",
    "Polish": "z ze i w na bez oraz",
    "Swedish": "en ett och med utan på som i",
    "Danish or Norwegian": "en et ei og med uten uden på som i",
    "Finnish": "ja jolla on ilman joka",
    "Czech": "se na bez v který která",
    "Hungarian": "egy az és nélkül",
    "Romanian": "un o cu și si fără fara în de",
    "Turkish": "bir ve ile olan",
    "Indonesian": "seorang dengan dan tanpa di sebuah",
    "Vietnamese": "một có và với không",
}
# What people ask for most: persons, hair and face, clothes, animals, things, colours. Words that are English too are
# left out, as "robe", "hat" and "rose" are.
_TELLING_WORDS = {
    "German": """
        frau mann mädchen junge leute gesicht haare haar haaren augen auge brille sonnenbrille bärtig schnurrbart mütze
        kleid kleider hemd hose schuh schuhe stiefel tasche mantel ohrringe kette hund katze vogel fisch pferd
        maus löwe haus baum blume blumen sonne mond stern herz apfel kuchen brot fahrrad schiff flugzeug zug
        schloss burg berg buch feuer wasser lachende lächelnde lächelnd lachend traurig glücklich alte junger große
        kleine kleiner lange langen langes kurze kurzen lockige rote roter rotes roten blaue blauer blaues blauen grüne
        grüner grünes grünen gelbe gelber gelbes schwarze schwarzer schwarzes schwarzen weiße weißer weißes weißen
        braune brauner braunes braunen graue rosa blau grün gelb schwarz weiß braun grau
    """,
    "French": """
        femme homme fille garçon enfant visage cheveux yeux lunettes barbe chapeau chemise pantalon chaussure chaussures
        bottes veste manteau jupe sac chien oiseau poisson cheval souris maison arbre fleur fleurs soleil lune étoile
        coeur cœur pomme gâteau voiture vélo bateau avion château montagne livre feu eau souriant souriante sourire
        triste heureux heureuse vieux vieille jeune petite grande rouges bleu bleue bleus verte verts jaune jaunes
        noire noirs blanc blanche blancs gris grise roux rousse
    """,
    "Spanish": """
        mujer hombre chica chico niña niño cara pelo cabello ojos gafas lentes barba bigote gorra vestido
        camisa camiseta pantalones pantalón zapato zapatos botas chaqueta abrigo falda bolso perro gato pájaro pez
        caballo ratón oso casa árbol flor flores sol luna estrella corazón manzana coche bicicleta barco avión
        tren castillo montaña libro fuego agua sonriente sonriendo triste feliz viejo vieja joven pequeño pequeña grande
        largo larga corto rizado rojo roja rojos rojas azul azules verde verdes amarillo amarilla negro negra negros
        blanco blanca blancos marrón gris rosado
    """,
    "Italian": """
        donna uomo ragazza ragazzo bambino bambina viso faccia capelli occhi occhiali barba baffi cappello vestito
        camicia maglietta pantaloni scarpa scarpe stivali stivale giacca cappotto borsa gatto uccello pesce
        cavallo topo orso casa albero fiore fiori luna stella cuore mela torta macchina bicicletta aereo treno castello
        montagna libro fuoco acqua sorridente felice vecchio vecchia giovane piccolo piccola lunghi corti ricci rosso
        rossa rossi rosse azzurro azzurra verde verdi giallo gialla nero nera neri bianco bianca bianchi grigio grigia
    """,
    "Portuguese": """
        mulher homem menina menino rapaz criança rosto cabelo cabelos olhos óculos barba bigode chapéu boné vestido
        camisa camiseta calças sapato sapatos botas bota jaqueta casaco saia bolsa cachorro cão gato pássaro peixe
        cavalo urso casa árvore flor flores sol lua estrela coração maçã bolo carro bicicleta navio avião trem castelo
        montanha livro fogo água sorridente sorrindo triste feliz velho velha jovem pequeno pequena longo curto
        vermelho vermelha vermelhos azul verde amarelo amarela preto preta branco branca marrom cinza
    """,
    "Dutch": """
        vrouw meisje jongen gezicht haar ogen baard snor hoed jurk overhemd broek schoen schoenen laarzen laars jas trui
        tas hond kat vogel vis paard muis huis bloem bloemen zon maan appel taart fiets schip vliegtuig trein kasteel
        boek vuur lachende lachend glimlachende verdrietig blij oude jonge kleine grote rode rood blauwe blauw groene
        groen gele geel zwarte zwart witte bruine bruin grijze grijs roze
    """,
    "Polish": """
        kobieta mężczyzna dziewczyna chłopak chłopiec dziecko twarz włosy włosami oczy okulary okularach broda brodą
        wąsy kapelusz kapeluszu czapka sukienka koszula spodnie buty kurtka płaszcz torba kot ptak ryba koń drzewo kwiat
        kwiaty słońce księżyc gwiazda serce jabłko ciasto samochód rower statek samolot pociąg zamek góra książka ogień
        woda uśmiechnięta uśmiechnięty smutny smutna wesoły stary stara młody młoda mały mała duży czerwony czerwona
        czerwone niebieski niebieska zielony zielona żółty żółta czarny czarna czarne biały biała brązowy szary różowy
        różowe
    """,
    "Swedish": """
        kvinna flicka pojke ansikte hår ögon glasögon skägg mustasch hatt mössa klänning skjorta byxor sko skor stövlar
        jacka väska hund katt fågel fisk häst björn hus träd blomma blommor sol måne stjärna hjärta äpple tårta bil
        cykel båt flygplan tåg slott berg eld vatten leende ledsen gammal ung liten stor långt kort rött röda blå blått
        gröna gul gult svart svarta vit vitt vita brun brunt bruna grå rosa
    """,
    "Danish or Norwegian": """
        kvinde kvinne mand pige jente dreng gutt ansigt ansikt hår øjne øyne briller skæg skjegg kjole skjorte
        bukser sko støvler jakke taske veske hund kat katt fugl fisk hest bjørn hus træ blomst sol måne stjerne hjerte
        æble eple kage kake bil cykel sykkel skib slott bjerg fjell ild vand vann smilende gammel rød røde rødt blå
        blåt blått grøn grønn gul gult sorte svart hvid hvit hvide brun grå
    """,
    "Finnish": """
        nainen mies tyttö poika lapsi kasvot hiukset silmät silmälasit parta viikset hattu lakki mekko paita housut
        kenkä kengät saappaat takki laukku koira kissa lintu kala hevonen karhu talo puu kukka aurinko kuu tähti sydän
        omena kakku leipä polkupyörä laiva lentokone juna linna vuori kirja tuli vesi hymyilevä surullinen iloinen vanha
        nuori pieni pitkä lyhyt punainen sininen vihreä keltainen musta valkoinen ruskea harmaa
    """,
    "Czech": """
        žena muž dívka chlapec dítě tvář vlasy oči brýle brýlemi vousy klobouk čepice šaty košile kalhoty boty bunda
        kabát taška pes kočka pták ryba kůň medvěd dům strom květina slunce měsíc hvězda srdce jablko dort loď letadlo
        vlak hrad hora kniha oheň voda usměvavá usměvavý smutný smutná starý stará mladý mladá malý malá velký červený
        červená modrý modrá zelený zelená žlutý žlutá černý černá bílý bílá hnědý šedý růžový
    """,
    "Hungarian": """
        nő férfi lány fiú gyerek haj haja hajú szem szemüveg szemüveges szakáll szakállas kalap sapka ruha nadrág
        cipő csizma kabát táska kutya macska madár ló medve ház fa virág csillag szív torta autó kerékpár hajó repülő
        vonat hegy könyv tűz víz mosolygó szomorú boldog öreg fiatal kicsi nagy piros vörös kék zöld sárga fekete fehér
        barna szürke rózsaszín
    """,
    "Romanian": """
        femeie bărbat fată băiat copil față păr părul ochi ochelari barbă mustață pălărie rochie cămașă pantaloni pantof
        pantofi cizme geacă palton geantă câine pisică pasăre pește casă copac floare flori soare lună stea inimă măr
        mașină bicicletă corabie tren castel munte foc apă zâmbitoare zâmbitor trist fericit bătrân tânăr mică roșu
        roșie albastru albastră verde galben galbenă negru neagră albă
    """,
    "Turkish": """
        kadın erkek kız çocuk yüz saçlı saç saçları gözlü göz gözlük gözlüklü sakal sakallı bıyıklı şapka şapkalı elbise
        gömlek pantolon ayakkabı ceket çanta köpek kedi kuş balık ayı ağaç çiçek güneş yıldız kalp elma ekmek araba
        bisiklet gemi uçak tren dağ kitap ateş gülümseyen üzgün mutlu yaşlı genç küçük büyük uzun kısa kırmızı mavi
        yeşil sarı siyah beyaz kahverengi gri pembe
    """,
    "Indonesian": """
        perempuan wanita pria laki anak gadis wajah rambut berambut kacamata berkacamata jenggot berjenggot topi bertopi
        baju gaun kemeja celana sepatu jaket anjing kucing burung ikan kuda beruang rumah pohon bunga matahari bintang
        apel kue mobil sepeda kapal pesawat kereta gunung buku tersenyum sedih bahagia muda kecil besar panjang pendek
        merah biru hijau kuning hitam putih cokelat coklat ungu
    """,
    "Vietnamese": """
        phụ nữ đàn ông cô gái trai tóc mắt kính râu mũ váy áo quần giày túi chó mèo cá ngựa nhà cây mặt trời trăng táo
        bánh thuyền núi sách lửa nước cười buồn già trẻ nhỏ lớn ngắn đỏ xanh vàng đen trắng nâu xám hồng tím
    """,
}
_MOST_NAMED = 3  # languages of which a text may be; more are not listed
_LONG = 5  # letters from which a word is known without its accents too


def language_of(text: str) -> str | None:
    """The language or script that the text seems to be in; None for English, and for what does not show."""
    text = unicodedata.normalize("NFC", text)
    return _script_of(text) or _latin_language_of(text)


def _script_of(text: str) -> str | None:
    """Where most letters are not Latin: whose they are."""
    letters = [letter for letter in text if letter.isalpha()]
    found = Counter(unicodedata.name(letter, "").partition(" ")[0].partition("-")[0] for letter in letters)
    if not letters or 2 * found["LATIN"] >= len(letters):
        return None
    if found["HIRAGANA"] + found["KATAKANA"]:
        return "Japanese"
    (most, _), *_ = Counter({name: count for name, count in found.items() if name != "LATIN"}).most_common(1)
    return _SCRIPTS.get(most, "another script")


def _latin_language_of(text: str) -> str | None:
    """The language most of whose words are there, if any is and English has fewer."""
    words = re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", text.lower())
    counts = {language: sum(word in known for word in words) for language, known in _words_of().items()}
    most = max(counts.values())
    if most <= sum(word in _ENGLISH for word in words):
        return None
    found = [language for language, count in counts.items() if count == most]
    return " or ".join(found) if len(found) <= _MOST_NAMED else "another language"


@cache
def _words_of() -> dict[str, frozenset[str]]:
    """What each language is known by; longer words without their accents too, as many type them."""
    known = {name: f"{small} {_TELLING_WORDS.get(name, '')}".split() for name, small in _SMALL_WORDS.items()}
    plain = {name: [_plain(word) for word in words if len(word) >= _LONG] for name, words in known.items()}
    return {name: frozenset([*words, *plain[name]]) - _ENGLISH for name, words in known.items()}


def _plain(word: str) -> str:
    letters = unicodedata.normalize("NFD", word)
    return "".join(letter for letter in letters if not unicodedata.combining(letter))

"""Words drawn into pictures: whatever script they are in, as long as a font of the machine has its letters."""

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]

INK: Colour = (30, 29, 34)
SOFT: Colour = (93, 90, 100)
LINE: Colour = (227, 224, 216)
# Pillow's own font has Latin letters alone. Of these, the first that the machine has and that has the letters.
_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "DejaVuSans.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "msyh.ttc",
    "YuGothM.ttc",
    "malgun.ttf",
    "segoeui.ttf",
    "NotoSans-Regular.ttf",
    "FreeSans.ttf",
)
_LATIN = 0x250  # Unicode's first letter behind Latin
_CUT = "..."


def font_for(text: str, size: int) -> Font:
    """A font of `size` pixels with the text's letters; Pillow's own where none has them all."""
    own = _own(size)
    if all(ord(letter) < _LATIN for letter in text):
        return own
    found = [font for font in map(lambda name: _installed(name, size), _FONTS) if font is not None]
    return next((font for font in found if _has_all(font, text)), own)


@lru_cache(maxsize=32)
def _own(size: int) -> Font:
    return ImageFont.load_default(size)


@lru_cache(maxsize=64)
def _installed(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _has_all(font: ImageFont.FreeTypeFont, text: str) -> bool:
    """Whether no letter is drawn as the box that stands for those a font lacks."""
    missing = bytes(font.getmask("\U0010ffff"))
    return all(bytes(font.getmask(letter)) != missing for letter in set(text) if not letter.isspace())


def width_of(text: str, size: int) -> int:
    """Pixels that one line of the text is wide."""
    return round(font_for(text, size).getlength(text))


def shortened_to(text: str, size: int, width: int) -> str:
    """As much of one line as is at most `width` pixels wide, with "..." for what is left out."""
    line = " ".join(text.split())
    if width_of(line, size) <= width:
        return line
    low, high = 0, len(line)  # of the letters kept: what is shorter is narrower
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if width_of(line[:middle] + _CUT, size) <= width else (low, middle - 1)
    return line[:low].rstrip() + _CUT


def wrapped(text: str, size: int, width: int, most: int) -> list[str]:
    """The text in at most `most` lines of `width` pixels; the last one is cut where more would be needed."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < most - 1:
        count = next((n for n in range(len(words), 1, -1) if width_of(" ".join(words[:n]), size) <= width), 1)
        lines.append(shortened_to(" ".join(words[:count]), size, width))
        words = words[count:]
    return [*lines, shortened_to(" ".join(words), size, width)] if words or not lines else lines


def write(
    sheet: Image.Image, place: tuple[float, float], text: str, size: int, *, colour: Colour = INK, anchor: str = "la"
) -> None:
    """Draws one line; anchor: Pillow's name of the point of the text that is at `place`, "la" the upper left."""
    font = font_for(text, size)
    if isinstance(font, ImageFont.FreeTypeFont):
        ImageDraw.Draw(sheet).text(place, text, fill=colour, font=font, anchor=anchor)
    else:  # of a Pillow without FreeType, which knows no anchors
        ImageDraw.Draw(sheet).text(place, text.encode("latin-1", "replace").decode("latin-1"), fill=colour, font=font)

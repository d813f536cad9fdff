"""Draw an avatar from its traits with skia. Every outline is a convex combination of outlines with equal topology.

Coordinates are those of a 128 x 128 canvas, y down; the head's centre is (64, 60).
"""

from __future__ import annotations

import numpy as np
import skia

from training.avatars.traits import EXTRAS, LAYOUT, PROPORTIONS, SHAPES, SIZE

CANVAS = 128
HEAD_X, HEAD_Y = 64.0, 60.0
HEAD_WIDTH, HEAD_HEIGHT = 25.0, 29.0
POINTS = 97  # of an outline; dense enough that straight segments look round at 256 px
ANGLES = np.linspace(-np.pi, np.pi, POINTS)  # from straight down over left, up (0) and right, to straight down

Colour = np.ndarray  # [3] in [0, 1]


# --- outlines of the hair ------------------------------------------------------------------------------------


def _skull(angles: np.ndarray) -> np.ndarray:
    """Distance from the head's centre to its edge in the direction of `angles` (0 is up)."""
    x, y = np.sin(angles) / HEAD_WIDTH, np.cos(angles) / HEAD_HEIGHT
    return 1 / np.sqrt(x**2 + y**2)


def _bump(angles: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.exp(-(((angles - centre) / width) ** 2))


def _box(angles: np.ndarray, half_width: float, bottom: float, top: float) -> np.ndarray:
    """Polar radius of a curtain, |x| <= half_width and -top <= y <= bottom: round above, nearly square below."""
    vertical = np.where(np.cos(angles) > 0, top, bottom)
    power = np.where(np.cos(angles) > 0, 2.3, 5.0)
    return (np.abs(np.sin(angles) / half_width) ** power + np.abs(np.cos(angles) / vertical) ** power) ** (-1 / power)


def _back_hair() -> np.ndarray:
    """Radii of the hair behind the head, [styles, POINTS]."""
    a = np.abs(ANGLES)
    hidden = _skull(ANGLES) * 0.8
    waves = 1.8 * np.sin(a * 15)
    curls = 2.6 * np.abs(np.sin(a * 9))
    by_style = {
        "bald": hidden,
        "short": hidden,
        "side part": hidden,
        "spiky": hidden,
        "mohawk": hidden,
        "afro": np.where(a < 2.25, 43 + 1.2 * np.abs(np.sin(a * 14)), 43 - (a - 2.25) * 22),
        "curly": np.maximum(_skull(ANGLES) + 8 + curls - 12 * _bump(a, np.pi, 0.7), hidden),
        "bob": _box(ANGLES, 33, 31, 36),
        "long straight": _box(ANGLES, 34, 60, 35),
        "long wavy": _box(ANGLES, 38, 58, 36) + waves,
        "bun": hidden,
        "pigtails": hidden,
    }
    return np.stack([by_style[style] for style in SHAPES["hair_style"]])


def _front_hair() -> tuple[np.ndarray, np.ndarray]:
    """The hair over the forehead: outer and inner edge as points [styles, POINTS, 2] around the head's centre."""
    t = np.linspace(-1, 1, POINTS)
    edge = np.abs(t)

    def arc(reach: float, outside: np.ndarray | float, hairline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        angles = t * reach
        direction = np.stack([np.sin(angles), -np.cos(angles)], axis=-1)
        skull = _skull(angles)
        taper = 1 - edge**8
        outer = direction * (skull + np.asarray(outside) * taper)[:, None]
        inner = direction * (skull * (1 - hairline * taper))[:, None]
        return outer, inner

    zigzag = np.abs(((t * 4.5) % 1) - 0.5) * 2
    curls = np.abs(np.sin(t * np.pi * 4.5))
    part = np.clip((t + 0.38) / 0.5, 0, 1)
    curtain = np.minimum(0.46, 0.1 + 0.62 * np.abs(t)) * (1 - 0.55 * edge**4)
    by_style = {
        "bald": arc(1.35, -0.6, 0 * t + 0.0),
        "short": arc(1.5, 2.2, 0.3 - 0.16 * edge**2),
        "side part": arc(1.5, 5.5 - 2.2 * t, 0.2 + 0.34 * part * (1 - part) * 2.4 + 0.1 * (1 - part)),
        "spiky": arc(1.45, 3.5 + 10 * zigzag * (1 - 0.5 * edge**2), 0.3 - 0.12 * edge + 0.08 * zigzag),
        "mohawk": arc(1.3, 19 * np.exp(-((t / 0.3) ** 4)) - 0.6, 0.36 * np.exp(-((t / 0.2) ** 4))),
        "afro": arc(1.6, 13.5 + 1.2 * np.abs(np.sin(t * 20)), 0.32 - 0.12 * edge**2),
        "curly": arc(1.75, 8 + 3 * curls, 0.34 + 0.1 * curls - 0.16 * edge**2),
        "bob": arc(1.9, 6.0, 0.5 - 0.26 * edge**3),
        "long straight": arc(1.85, 5.0, curtain),
        "long wavy": arc(1.85, 7.0 + 0.8 * np.sin(t * 22), 0.16 + 0.3 * part - 0.22 * edge**3 * (t > 0)),
        "bun": arc(1.5, 1.8, 0.24 - 0.1 * edge**2),
        "pigtails": arc(1.6, 3.0, np.minimum(0.36, 0.08 + 0.5 * np.abs(t)) - 0.12 * edge**4),
    }
    pairs = [by_style[style] for style in SHAPES["hair_style"]]
    return np.stack([outer for outer, _ in pairs]), np.stack([inner for _, inner in pairs])


# Ellipses that some styles add behind the head: (x, y, radius x, radius y) around the head's centre.
_NO_TUFTS = ((0.0, -26.0, 0.0, 0.0), (-18.0, -4.0, 0.0, 0.0), (18.0, -4.0, 0.0, 0.0))
_TUFTS = {
    "bun": ((0.0, -36.0, 12.5, 11.5), (-18.0, -4.0, 0.0, 0.0), (18.0, -4.0, 0.0, 0.0)),
    "pigtails": ((0.0, -26.0, 0.0, 0.0), (-35.0, 8.0, 10.0, 19.0), (35.0, 8.0, 10.0, 19.0)),
}

BACK_HAIR = _back_hair()
FRONT_HAIR_OUTER, FRONT_HAIR_INNER = _front_hair()
TUFTS = np.asarray([_TUFTS.get(style, _NO_TUFTS) for style in SHAPES["hair_style"]])

# Rows follow the order of the values in `SHAPES`; columns are named beside.
GLASSES = np.asarray([  # frame width, corner exponent, lens tint, lens half-width, lens half-height
    (0.0, 2.6, 0.0, 7.5, 6.5), (1.9, 2.0, 0.12, 9.0, 9.0), (2.1, 6.0, 0.12, 9.4, 7.0), (1.9, 3.2, 0.93, 10.2, 8.2),
])  # fmt: skip
FACIAL_HAIR = np.asarray([  # moustache thickness, moustache half-width, beard reach (rad), beard depth, chin tuft
    (0.0, 8.0, 0.35, 0.0, 0.0), (4.6, 12.5, 0.35, 0.0, 0.0), (2.6, 8.0, 0.5, 9.0, 4.5), (4.2, 11.0, 1.75, 12.5, 5.0),
])  # fmt: skip
HAT = np.asarray([  # size, crown height, crown top width, crown base width, brim half-width, brim side shift, pompom
    (0.0, 16, 20, 26, 26, 0, 0.0), (1.0, 21, 18, 28, 31, 13, 0.0), (1.0, 24, 17, 29, 29, 0, 6.5),
    (1.0, 38, 22, 23, 39, 0, 0.0),
])  # fmt: skip
HAT_BAND = np.asarray([0.0, 0.0, 1.0, 0.75])
HAT_CORNER = np.asarray([2.0, 2.3, 2.2, 14.0])
MOUTH = np.asarray([  # half-width, curve (down at the middle is positive), opening, teeth
    (7.5, 0.0, 0.0, 0.0), (9.0, 5.0, 0.0, 0.0), (11.5, 6.0, 8.0, 1.0), (8.0, -5.0, 0.0, 0.0), (5.2, 0.0, 11.0, 0.0),
])  # fmt: skip
EYES = np.asarray([  # opening of the left and of the right eye, size
    (1.0, 1.0, 1.0), (0.0, 0.0, 1.0), (1.0, 0.0, 1.0), (1.35, 1.35, 1.28),
])  # fmt: skip
CLOTHES = np.asarray([  # neckline half-width and depth, shoulder cover, hood, collar, stripes, lapels
    (15, 9, 1.0, 0, 0, 0, 0), (13, 6, 1.0, 1, 0, 0, 0), (11, 7, 1.0, 0, 1, 0, 0), (13, 4, 1.0, 0, 0, 1, 0),
    (20, 17, 0.0, 0, 0, 0, 0), (12, 20, 1.0, 0, 0.7, 0, 1),
])  # fmt: skip


# --- painting ------------------------------------------------------------------------------------------------


def _mix(colour: Colour, other: Colour | float, amount: float) -> Colour:
    return colour * (1 - amount) + np.asarray(other) * amount


def _paint(colour: Colour, alpha: float = 1.0, *, stroke: float = 0.0) -> skia.Paint:
    red, green, blue = (float(np.clip(channel, 0, 1)) for channel in colour)
    paint = skia.Paint(Color4f=skia.Color4f(red, green, blue, float(np.clip(alpha, 0, 1))), AntiAlias=True)
    if stroke:
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeWidth(float(stroke))
        paint.setStrokeCap(skia.Paint.kRound_Cap)
        paint.setStrokeJoin(skia.Paint.kRound_Join)
    return paint


def _polygon(points: np.ndarray, *, closed: bool = True) -> skia.Path:
    return skia.Path.Polygon([skia.Point(float(x), float(y)) for x, y in points], closed)


def _oval(x: float, y: float, radius_x: float, radius_y: float) -> skia.Rect:
    return skia.Rect.MakeLTRB(x - radius_x, y - radius_y, x + radius_x, y + radius_y)


def _superellipse(x: float, y: float, half_width: float, half_height: float, exponent: float) -> np.ndarray:
    cosine, sine = np.cos(ANGLES), np.sin(ANGLES)
    return np.stack([
        x + half_width * np.sign(cosine) * np.abs(cosine) ** (2 / exponent),
        y + half_height * np.sign(sine) * np.abs(sine) ** (2 / exponent),
    ], axis=-1)  # fmt: skip


class _Avatar:
    """One row of traits, unpacked into the numbers that the parts share."""

    def __init__(self, traits: np.ndarray) -> None:
        self.weights = {group: traits[LAYOUT[group]].astype(np.float64) for group in SHAPES}
        self.skin, self.hair, self.cloth, self.background, self.hat = (
            traits[LAYOUT[group]].astype(np.float64)
            for group in ("skin", "hair_colour", "clothes_colour", "background", "hat_colour")
        )
        self.woman = float(traits[LAYOUT["person"].start])
        present = traits[SIZE:].astype(float) if len(traits) > SIZE else np.zeros(len(EXTRAS))
        self.extra = dict(zip(EXTRAS, present, strict=True))
        # What an extra takes the place of gives way as it comes: glasses, other hats, the hair under a scarf.
        covered = 1 - (1 - self.extra["turban"]) * (1 - self.extra["headscarf"])
        self._fade("glasses", "none", self.extra["eyepatch"])
        self._fade("glasses", "none", self.extra["heart_eyes"])
        self._fade("hat", "none", covered)
        self._fade("hair_style", "short", self.extra["turban"])
        self._fade("hair_style", "bald", self.extra["headscarf"])
        self.proportion = dict(zip(PROPORTIONS, traits[LAYOUT["proportions"]].astype(float), strict=True))
        self.head_width = HEAD_WIDTH + 0.9 * self.proportion["head_width"] - 0.8 * self.woman
        self.shade = _mix(self.skin, np.asarray([0.42, 0.12, 0.1]), 0.24)
        self.brow_colour = _mix(self.hair, self.shade * 0.45, 0.45)

    def _fade(self, group: str, value: str, amount: float) -> None:
        target = np.eye(len(SHAPES[group]))[SHAPES[group].index(value)]
        self.weights[group] = self.weights[group] * (1 - amount) + target * amount

    def head_outline(self) -> np.ndarray:
        """Points [POINTS, 2] of the face: round above, a jaw of adjustable width below."""
        x, y = np.sin(ANGLES), -np.cos(ANGLES)
        jaw = 2.35 + 0.22 * self.proportion["jaw"] - 0.35 * self.woman + 0.3 * (1 - self.woman)
        below = np.clip(y, 0, 1)
        width = self.head_width * np.sign(x) * np.abs(x) ** (2 / (2 + (jaw - 2) * below))
        return np.stack([HEAD_X + width, HEAD_Y + (HEAD_HEIGHT + 2 * below) * y], axis=-1)


def draw(traits: np.ndarray, size: int = CANVAS) -> np.ndarray:
    """Draw one avatar. `traits`: [SIZE] or [WIDE], on the domain of `traits.project`. Returns uint8 [size, size, 3]."""
    avatar = _Avatar(traits)
    surface = skia.Surface(size, size)
    canvas = surface.getCanvas()
    canvas.scale(size / CANVAS, size / CANVAS)
    _draw_background(canvas, avatar)
    canvas.save()
    canvas.translate(1.2 * avatar.proportion["shift"], 2.0)
    with skia.AutoCanvasRestore(canvas):
        _tilt(canvas, avatar)
        _draw_back_hair(canvas, avatar)
    _draw_body(canvas, avatar)
    with skia.AutoCanvasRestore(canvas):
        _tilt(canvas, avatar)
        _draw_head(canvas, avatar)
        _draw_beard(canvas, avatar)
        _draw_mouth(canvas, avatar)
        _draw_tongue(canvas, avatar)
        _draw_moustache(canvas, avatar)
        _draw_eyes(canvas, avatar)
        _draw_heart_eyes(canvas, avatar)
        _draw_eyepatch(canvas, avatar)
        _draw_front_hair(canvas, avatar)
        _draw_glasses(canvas, avatar)
        _draw_hat(canvas, avatar)
        _draw_turban(canvas, avatar)
        _draw_headscarf(canvas, avatar)
    canvas.restore()
    return surface.makeImageSnapshot().toarray(colorType=skia.kRGBA_8888_ColorType)[..., :3].copy()


def _tilt(canvas: skia.Canvas, avatar: _Avatar) -> None:
    canvas.rotate(2.2 * avatar.proportion["tilt"], HEAD_X, HEAD_Y + 34)


def _draw_background(canvas: skia.Canvas, avatar: _Avatar) -> None:
    canvas.clear(skia.Color4f(*(float(c) for c in avatar.background), 1.0))
    canvas.drawCircle(64, 70, 54, _paint(_mix(avatar.background, 1.0, 0.34)))


def _draw_back_hair(canvas: skia.Canvas, avatar: _Avatar) -> None:
    scarf = avatar.extra["headscarf"]
    if scarf > 0.02:
        radius = (1 - scarf) * 0.8 * _skull(ANGLES) + scarf * _box(ANGLES, 31, 56, 35)
        points = np.stack([HEAD_X + radius * np.sin(ANGLES), HEAD_Y - radius * np.cos(ANGLES)], axis=-1)
        canvas.drawPath(_polygon(points), _paint(_mix(avatar.hat, 0.0, 0.25)))
    weights = avatar.weights["hair_style"]
    dark = _mix(avatar.hair, 0.0, 0.22)
    for x, y, radius_x, radius_y in np.tensordot(weights, TUFTS, 1):
        canvas.drawOval(_oval(HEAD_X + x, HEAD_Y + y, radius_x, radius_y), _paint(_mix(avatar.hair, 0.0, 0.1)))
    radius = weights @ BACK_HAIR
    points = np.stack([HEAD_X + radius * np.sin(ANGLES), HEAD_Y - radius * np.cos(ANGLES)], axis=-1)
    canvas.drawPath(_polygon(points), _paint(dark))


def _draw_body(canvas: skia.Canvas, avatar: _Avatar) -> None:
    neck_width, neck_depth, cover, hood, collar, stripes, lapels = avatar.weights["clothes"] @ CLOTHES
    shoulder = 46 + 5 * (1 - avatar.woman)
    neck = 10.5 + 2.0 * (1 - avatar.woman)
    cloth, dark = avatar.cloth, _mix(avatar.cloth, 0.0, 0.22)
    across = np.linspace(-1, 1, POINTS)
    slope = 104 + 13 * np.abs(across) ** 2.2 + 14 * np.abs(across) ** 14
    bust = np.stack([HEAD_X + shoulder * across, slope], axis=-1)
    floor = np.asarray([(HEAD_X + shoulder, 140), (HEAD_X - shoulder, 140)])
    canvas.drawPath(_polygon(np.concatenate([bust, floor])), _paint(avatar.skin))
    if hood > 0.02:
        canvas.drawOval(_oval(HEAD_X, 101, 30 * hood + 8, 15 * hood), _paint(dark))
    canvas.drawPath(
        _polygon(np.asarray([
            (HEAD_X - neck, 78), (HEAD_X + neck, 78), (HEAD_X + neck, 100), (HEAD_X + neck + 5, 108),
            (HEAD_X - neck - 5, 108), (HEAD_X - neck, 100),
        ])),
        _paint(avatar.skin),
    )  # fmt: skip
    canvas.drawOval(_oval(HEAD_X, 89, neck + 1.5, 10), _paint(avatar.shade, 0.75))

    # The garment: the bust's outline with the neckline cut out of its upper edge.
    inside = np.clip(1 - (across * shoulder / neck_width) ** 2, 0, None) ** 0.6
    strap = (1 - cover) * 16 * np.clip((np.abs(across) - 0.52) / 0.2, 0, 1)
    top = slope - 1.2 + np.maximum(neck_depth * inside + np.where(inside > 0, 2.0, 0.0), strap)
    garment = _polygon(np.concatenate([np.stack([bust[:, 0], top], -1), floor]))
    canvas.drawPath(garment, _paint(cloth))
    canvas.save()
    canvas.clipPath(garment, skia.ClipOp.kIntersect, True)
    for y in range(112, 132, 8):
        if stripes > 0.02:
            stripe = _mix(cloth, 1.0 - np.round(cloth.mean()), 0.75)
            canvas.drawRect(skia.Rect.MakeXYWH(0, y, 128, 4 * stripes), _paint(stripe))
    canvas.restore()
    if lapels > 0.02:
        _draw_suit(canvas, avatar, lapels, neck_width, neck_depth)
    if collar > 0.02:
        _draw_collar(canvas, _mix(cloth, 1.0, 0.3 + 0.65 * min(lapels, 1.0)), collar, neck)
    if hood > 0.02:
        for side in (-1, 1):
            canvas.drawLine(HEAD_X + side * 6, 112, HEAD_X + side * 6.5, 112 + 11 * hood,
                            _paint(_mix(cloth, 1.0, 0.75), hood, stroke=1.8))  # fmt: skip


def _draw_suit(canvas: skia.Canvas, avatar: _Avatar, amount: float, width: float, depth: float) -> None:
    bottom = 106 + 24 * amount
    shirt = np.asarray([(HEAD_X - width * amount, 105), (HEAD_X + width * amount, 105), (HEAD_X, bottom + 6)])
    canvas.drawPath(_polygon(shirt), _paint(np.ones(3) * 0.97))
    tie_width = 4.2 * amount
    tie = np.asarray([
        (HEAD_X - 2.6 * amount, 107), (HEAD_X + 2.6 * amount, 107), (HEAD_X + 1.6 * amount, 111),
        (HEAD_X + tie_width, 140), (HEAD_X - tie_width, 140), (HEAD_X - 1.6 * amount, 111),
    ])  # fmt: skip
    canvas.drawPath(_polygon(tie), _paint(np.asarray([0.72, 0.12, 0.16])))
    for side in (-1, 1):
        lapel = np.asarray([
            (HEAD_X + side * width, 104), (HEAD_X + side * (width + 9 * amount), 112),
            (HEAD_X + side * 12 * amount, 116), (HEAD_X + side * 2, bottom + 6), (HEAD_X + side * (width - 3), 106),
        ])  # fmt: skip
        canvas.drawPath(_polygon(lapel), _paint(_mix(avatar.cloth, 0.0, 0.3)))


def _draw_collar(canvas: skia.Canvas, colour: Colour, amount: float, neck: float) -> None:
    for side in (-1, 1):
        flap = np.asarray([
            (HEAD_X + side * (neck + 1), 100), (HEAD_X + side * (neck + 5), 104),
            (HEAD_X + side * (3 + 8 * amount), 107 + 9 * amount), (HEAD_X + side * 1.2, 110),
        ])  # fmt: skip
        canvas.drawPath(_polygon(flap), _paint(colour))


def _draw_head(canvas: skia.Canvas, avatar: _Avatar) -> None:
    for side in (-1, 1):
        canvas.drawOval(_oval(HEAD_X + side * (avatar.head_width - 0.5), HEAD_Y + 5, 5, 6.5), _paint(avatar.skin))
        canvas.drawOval(_oval(HEAD_X + side * avatar.head_width, HEAD_Y + 5, 2.4, 3.6), _paint(avatar.shade, 0.55))
    canvas.drawPath(_polygon(avatar.head_outline()), _paint(avatar.skin))
    for side in (-1, 1):
        blush = np.asarray([0.95, 0.35, 0.32])
        canvas.drawOval(_oval(HEAD_X + side * 15, HEAD_Y + 13, 5, 3.2), _paint(blush, 0.12 + 0.2 * avatar.woman))
    nose = 2.6 + 0.4 * avatar.proportion["nose"] + 0.6 * (1 - avatar.woman)
    canvas.drawOval(_oval(HEAD_X, HEAD_Y + 10, nose, nose * 0.75), _paint(avatar.shade, 0.8))


def _draw_eyes(canvas: skia.Canvas, avatar: _Avatar) -> None:
    left, right, size = avatar.weights["eyes"] @ EYES
    size *= 1 + 0.06 * avatar.proportion["eye_size"] + 0.06 * avatar.woman
    spacing = 11 + 0.6 * avatar.proportion["eye_spacing"]
    ink = np.asarray([0.13, 0.1, 0.12])
    for side, opening in ((-1, left), (1, right)):
        x, y = HEAD_X + side * spacing, HEAD_Y + 1.5
        half_height = 5.6 * size * opening
        if opening > 0.05:
            canvas.drawOval(_oval(x, y, 5.4 * size, half_height), _paint(np.ones(3)))
            pupil = 3.2 * size
            canvas.drawOval(_oval(x, y, pupil, min(pupil, half_height)), _paint(ink))
            canvas.drawCircle(x + 1.1, y - 1.2 * opening, 0.95 * min(1.0, opening), _paint(np.ones(3)))
        # The lid: an arch over the open eye that becomes the downward line of a closed one.
        across = np.linspace(-1, 1, 21)
        arch = np.sqrt(np.clip(1 - across**2, 0, 1))
        lid_y = y - half_height * arch + max(0.0, 1 - opening * 2) * 3.4 * (arch - 0.4)
        lid = np.stack([x + 5.6 * size * across, lid_y], axis=-1)
        thickness = 1.1 + 0.9 * max(0.0, 1 - opening) + 0.8 * avatar.woman
        canvas.drawPath(_polygon(lid, closed=False), _paint(ink, stroke=thickness))
        lash = 3.6 * np.clip(avatar.woman * 2 - 0.7, 0, 1)
        if lash > 0.2:
            corner_x, corner_y = x + side * 5.2 * size, y - 0.45 * half_height
            for rise in (0.9, 0.25):
                canvas.drawLine(
                    corner_x,
                    corner_y,
                    corner_x + side * lash,
                    corner_y - rise * lash,
                    _paint(ink, stroke=1.1),
                )
        lift = 10.5 + 1.2 * avatar.proportion["brow_height"] + 2.2 * max(0.0, size - 1.1) * 10
        slant = 1.1 * avatar.proportion["brow_angle"]
        brow = np.asarray([
            (x - side * 6, y - lift + slant + 1.2), (x + side * 1, y - lift - 1.4),
            (x + side * 6.5, y - lift + 0.6 - slant * 0.5),
        ])  # fmt: skip
        canvas.drawPath(_polygon(brow, closed=False), _paint(avatar.brow_colour, stroke=3.1 - 1.2 * avatar.woman))


def _draw_mouth(canvas: skia.Canvas, avatar: _Avatar) -> None:
    half_width, curve, opening, teeth = avatar.weights["mouth"] @ MOUTH
    y = HEAD_Y + 19.5
    across = np.linspace(-1, 1, 31)
    arch = 1 - across**2
    centre = y + curve * (arch - 0.5)
    lip = _mix(_mix(avatar.shade, 0.0, 0.45), np.asarray([0.78, 0.16, 0.24]), 0.2 + 0.65 * avatar.woman)
    rounded = np.sqrt(arch)
    flat = np.clip(teeth, 0, 1)
    upper = centre - opening * rounded * (0.5 - 0.4 * flat)
    lower = centre + opening * rounded * (0.5 + 0.4 * flat)
    x = HEAD_X + half_width * across
    shape = _polygon(np.concatenate([np.stack([x, upper], -1), np.stack([x, lower], -1)[::-1]]))
    canvas.drawPath(shape, _paint(np.asarray([0.36, 0.06, 0.1])))
    canvas.save()
    canvas.clipPath(shape, skia.ClipOp.kIntersect, True)
    if teeth > 0.05:
        edge = np.concatenate([np.stack([x, upper], -1), np.stack([x, upper + 0.42 * opening * teeth], -1)[::-1]])
        canvas.drawPath(_polygon(edge), _paint(np.ones(3)))
        canvas.drawOval(
            _oval(HEAD_X, y + opening * 1.05, half_width * 0.5, opening * 0.36),
            _paint(np.asarray([0.92, 0.4, 0.42])),
        )
    canvas.restore()
    canvas.drawPath(shape, _paint(lip, stroke=1.7 + 0.9 * avatar.woman * (1 - 0.5 * flat)))


def _draw_beard(canvas: skia.Canvas, avatar: _Avatar) -> None:
    _, _, reach, depth, tuft = avatar.weights["facial_hair"] @ FACIAL_HAIR
    if depth < 0.3:
        return
    outline = avatar.head_outline()
    below = np.pi - np.abs(ANGLES)
    order = np.argsort(np.where(ANGLES > 0, below, -below))
    outer, along = outline[order], np.where(ANGLES > 0, below, -below)[order]
    chosen = np.abs(along) <= reach
    outer, along = outer[chosen], along[chosen] / reach
    centre = np.asarray([HEAD_X, HEAD_Y])
    direction = (outer - centre) / np.linalg.norm(outer - centre, axis=1, keepdims=True)
    taper = np.sqrt(np.clip(1 - along**6, 0, 1))[:, None]
    inner = outer - direction * taper * (depth * (1 - 0.45 * along[:, None] ** 2))
    outer = outer + direction * taper * tuft * 0.6 * np.exp(-((along[:, None] / 0.8) ** 2))
    canvas.drawPath(_polygon(np.concatenate([outer, inner[::-1]])), _paint(_mix(avatar.hair, 0.0, 0.12)))


def _draw_moustache(canvas: skia.Canvas, avatar: _Avatar) -> None:
    thickness, half_width, *_ = avatar.weights["facial_hair"] @ FACIAL_HAIR
    if thickness < 0.25:
        return
    across = np.linspace(-1, 1, 31)
    y = HEAD_Y + 14.2 + 2.6 * np.abs(across) ** 2
    swell = thickness * (1 - np.abs(across) ** 3) * (0.72 + 0.5 * np.sin(np.abs(across) * np.pi))
    x = HEAD_X + half_width * across
    points = np.concatenate([np.stack([x, y - 0.45 * swell], -1), np.stack([x, y + 0.55 * swell], -1)[::-1]])
    canvas.drawPath(_polygon(points), _paint(_mix(avatar.hair, 0.0, 0.18)))


def _draw_front_hair(canvas: skia.Canvas, avatar: _Avatar) -> None:
    weights = avatar.weights["hair_style"]
    widen = np.asarray([avatar.head_width / HEAD_WIDTH, 1.0])
    centre = np.asarray([HEAD_X, HEAD_Y])
    outer = centre + np.tensordot(weights, FRONT_HAIR_OUTER, 1) * widen
    inner = centre + np.tensordot(weights, FRONT_HAIR_INNER, 1) * widen
    shape = _polygon(np.concatenate([outer, inner[::-1]]))
    canvas.drawPath(shape, _paint(avatar.hair))
    canvas.save()
    canvas.clipPath(shape, skia.ClipOp.kIntersect, True)
    shine = centre + (0.45 * (outer - centre) + 0.55 * (inner - centre))
    middle = len(shine) // 2
    canvas.drawPath(
        _polygon(shine[middle - 26 : middle - 6], closed=False),
        _paint(_mix(avatar.hair, 1.0, 0.3), stroke=2.2),
    )
    canvas.restore()


def _draw_glasses(canvas: skia.Canvas, avatar: _Avatar) -> None:
    frame, exponent, tint, half_width, half_height = avatar.weights["glasses"] @ GLASSES
    if frame < 0.08:
        return
    ink = np.asarray([0.12, 0.12, 0.15])
    y = HEAD_Y + 2
    for side in (-1, 1):
        x = HEAD_X + side * 11.6
        lens = _polygon(_superellipse(x, y, half_width, half_height, exponent))
        glass = _mix(np.asarray([0.85, 0.93, 1.0]), np.asarray([0.1, 0.11, 0.14]), min(1.0, tint * 1.4))
        canvas.drawPath(lens, _paint(glass, tint + 0.1 * frame / 2))
        if tint > 0.3:
            canvas.drawLine(x - 4.5, y + 2.5, x + 1.5, y - 4, _paint(np.ones(3), 0.4 * (tint - 0.3), stroke=2.2))
        canvas.drawPath(lens, _paint(ink, stroke=frame))
        canvas.drawLine(
            x + side * half_width,
            y - 2,
            HEAD_X + side * (avatar.head_width + 1),
            y - 1,
            _paint(ink, stroke=frame * 0.9),
        )
    canvas.drawLine(HEAD_X - 3.2, y - 2, HEAD_X + 3.2, y - 2, _paint(ink, stroke=frame))


def _draw_hat(canvas: skia.Canvas, avatar: _Avatar) -> None:
    weights = avatar.weights["hat"]
    size, height, top, base, brim, shift, pompom = weights @ HAT
    if size < 0.04:
        return
    exponent, band = float(weights @ HAT_CORNER), float(weights @ HAT_BAND)
    dark = _mix(avatar.hat, 0.0, 0.25)
    canvas.save()
    canvas.translate(HEAD_X, HEAD_Y - 15 - 13 * (1 - size))
    canvas.scale(size, size)
    rise = np.linspace(0, np.pi, 61)
    cosine, sine = np.cos(rise), np.sin(rise)
    up = sine ** (2 / exponent)
    half = base + (top - base) * up
    x = half * np.sign(cosine) * np.abs(cosine) ** (2 / exponent)
    crown = np.stack([x, -height * up], axis=-1)
    if pompom > 0.2:
        canvas.drawCircle(0, -height - 0.5 * pompom, pompom, _paint(_mix(avatar.hat, 1.0, 0.45)))
    canvas.drawPath(_polygon(np.concatenate([crown, [(-base, 1.0), (base, 1.0)]])), _paint(avatar.hat))
    if band > 0.03:
        stripe = skia.Rect.MakeLTRB(-base - 1, 1 - 8.5 * band, base + 1, 2.0)
        canvas.drawRoundRect(stripe, 3, 3, _paint(_mix(dark, avatar.hat, 0.2)))
    thin = 2.4 + 1.2 * (brim - 26) / 13
    if brim > 29.5 or shift > 0.5:
        canvas.drawOval(_oval(shift, 1.5, brim, thin), _paint(dark))
    canvas.restore()


def _draw_tongue(canvas: skia.Canvas, avatar: _Avatar) -> None:
    out = avatar.extra["tongue"]
    if out < 0.05:
        return
    _, curve, opening, teeth = avatar.weights["mouth"] @ MOUTH
    top = HEAD_Y + 19.5 + 0.5 * curve - 0.2 * opening * np.clip(1 - teeth, 0, 1)
    half_width, length = 4.6 * out, 5.5 + 4.5 * out + 0.3 * opening
    tongue = np.concatenate([
        [(HEAD_X - half_width, top)], np.stack([
            HEAD_X - half_width * np.cos(np.linspace(0, np.pi, 25)),
            top + length - 4.2 + 4.2 * np.sin(np.linspace(0, np.pi, 25)),
        ], axis=-1), [(HEAD_X + half_width, top)],
    ])  # fmt: skip
    canvas.drawPath(_polygon(tongue), _paint(np.asarray([0.93, 0.38, 0.44])))
    crease = np.asarray([0.74, 0.2, 0.28])
    canvas.drawPath(_polygon(tongue, closed=False), _paint(crease, stroke=0.9))
    canvas.drawLine(HEAD_X, top + 1, HEAD_X, top + 0.62 * length, _paint(crease, stroke=1.0))


def _draw_heart_eyes(canvas: skia.Canvas, avatar: _Avatar) -> None:
    size = 8.2 * avatar.extra["heart_eyes"]
    if size < 0.4:
        return
    turn = np.linspace(0, 2 * np.pi, 61)
    x = np.sin(turn) ** 3
    y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)) / 15
    spacing = 11 + 0.6 * avatar.proportion["eye_spacing"]
    for side in (-1, 1):
        heart = np.stack([HEAD_X + side * spacing + size * x, HEAD_Y + 1.5 + size * y], axis=-1)
        canvas.drawPath(_polygon(heart), _paint(np.asarray([0.9, 0.12, 0.24])))
        canvas.drawCircle(
            HEAD_X + side * spacing - 0.42 * size, HEAD_Y + 1.5 - 0.35 * size, 0.17 * size, _paint(np.ones(3), 0.85)
        )


def _draw_eyepatch(canvas: skia.Canvas, avatar: _Avatar) -> None:
    size = avatar.extra["eyepatch"]
    if size < 0.05:
        return
    ink = np.asarray([0.1, 0.09, 0.1])
    x = HEAD_X - 11 - 0.6 * avatar.proportion["eye_spacing"]
    slope = 0.3  # of the strap, down from the wearer's left temple
    reach = avatar.head_width - 1
    canvas.drawLine(
        HEAD_X - reach, HEAD_Y - 1 + slope * (-reach - x + HEAD_X) * -1,
        HEAD_X + reach * 0.86, HEAD_Y - 1 - slope * (reach * 0.86 - x + HEAD_X), _paint(ink, stroke=2.4 * size),
    )  # fmt: skip
    patch = _superellipse(x, HEAD_Y + 2, 8.8 * size, 8.2 * size, 2.5)
    patch[:, 1] = np.where(patch[:, 1] < HEAD_Y + 2, HEAD_Y + 2 + 0.72 * (patch[:, 1] - HEAD_Y - 2), patch[:, 1])
    canvas.drawPath(_polygon(patch), _paint(ink))


def _draw_turban(canvas: skia.Canvas, avatar: _Avatar) -> None:
    size = avatar.extra["turban"]
    if size < 0.04:
        return
    dark, light = _mix(avatar.hat, 0.0, 0.22), _mix(avatar.hat, 1.0, 0.22)
    canvas.save()
    canvas.translate(HEAD_X, HEAD_Y - 13 - 13 * (1 - size))
    canvas.scale(size, size)
    rise = np.linspace(0, np.pi, 61)
    crown = np.stack([31 * np.cos(rise), -27 * np.sin(rise) ** 0.85], axis=-1)
    below = np.linspace(-1, 1, 31)
    brow = np.stack([31 * below, 1.5 - 9 * (1 - np.abs(below)) ** 1.2 + 1.5 * (1 - below**2)], axis=-1)
    shape = _polygon(np.concatenate([crown, brow]))
    canvas.drawPath(shape, _paint(avatar.hat))
    canvas.clipPath(shape, skia.ClipOp.kIntersect, True)
    for side in (-1, 1):
        for lift in (0.0, 8.5):
            fold = np.stack([side * (34 - 34 * (below + 1) / 2), -2 - lift - 7 * (below + 1) / 2 * (1 + lift / 9)], -1)
            canvas.drawPath(_polygon(fold, closed=False), _paint(dark if side < 0 else light, stroke=1.8))
    canvas.restore()
    canvas.drawCircle(HEAD_X, HEAD_Y - 26 - 4 * (1 - size), 3.3 * size, _paint(np.asarray([0.98, 0.8, 0.25])))


def _draw_headscarf(canvas: skia.Canvas, avatar: _Avatar) -> None:
    amount = avatar.extra["headscarf"]
    if amount < 0.03:
        return
    skull = _skull(ANGLES)
    outer = (1 - amount) * skull + amount * _box(ANGLES, 31, 43, 35)
    inner = (1 - amount) * skull + amount * np.minimum(skull - 0.6, _box(ANGLES, 22.2, 29.5, 21))
    direction = np.stack([np.sin(ANGLES), -np.cos(ANGLES)], axis=-1)
    centre = np.asarray([HEAD_X, HEAD_Y])
    ring = np.concatenate([centre + outer[:, None] * direction, (centre + inner[:, None] * direction)[::-1]])
    canvas.drawPath(_polygon(ring), _paint(avatar.hat))
    rim = _polygon(centre + inner[:, None] * direction)
    canvas.drawPath(rim, _paint(_mix(avatar.hat, 0.0, 0.22), stroke=1.6 * amount))

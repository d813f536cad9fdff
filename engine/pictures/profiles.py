"""ICC colour profiles as far as grey pictures need them: their tone curve, for pixels that are written as RGB."""

import io
import struct
from functools import cache

from PIL import ImageCms

_HEADER = 128  # bytes before the table of tags
_MOST_TAGS = 200
_CURVES = (b"rTRC", b"gTRC", b"bTRC")


def rgb_of_grey(profile: bytes) -> bytes | None:
    """An RGB profile in which the three channels have the tone curve of a grey one: equal numbers look as they did.

    None for one without a curve to the light (ICC.1, tag kTRC with XYZ as connection space), or a damaged one.
    """
    curve = _tags(profile).get(b"kTRC")
    if curve is None or profile[20:24] != b"XYZ ":
        return None
    header, tags = _srgb()
    made = _written(header, {**tags, **dict.fromkeys(_CURVES, curve)})
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(made))
    except (OSError, ImageCms.PyCMSError):
        return None
    return made


@cache
def _srgb() -> tuple[bytes, dict[bytes, bytes]]:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # The date, at 24 to 36, is that of today: equal pictures are to give equal files.
    header = profile[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + profile[36:84] + bytes(16) + profile[100:_HEADER]
    return header, _tags(profile)


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """The data of a profile's tags by their signatures; none of a damaged one."""
    if len(profile) < _HEADER + 4:
        return {}
    (count,) = struct.unpack_from(">I", profile, _HEADER)
    if count > _MOST_TAGS or len(profile) < _HEADER + 4 + 12 * count:
        return {}
    entries = [struct.unpack_from(">4sII", profile, _HEADER + 4 + 12 * index) for index in range(count)]
    return {name: profile[start : start + size] for name, start, size in entries if start + size <= len(profile)}


def _written(header: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body = struct.pack(">I", len(tags)), b""
    begin, places = _HEADER + 4 + 12 * len(tags), {}
    for name, data in tags.items():
        if data not in places:  # tags with equal data share them
            places[data] = begin + len(body)
            body += data + bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, places[data], len(data))
    return struct.pack(">I", begin + len(body)) + header[4:] + table + body

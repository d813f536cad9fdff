"""What a saved picture carries besides its settings, as plain JSON values, and back: exact to the last bit.

Of an edit where it began, of a repainting the mask; what the picture was called, and what its transparent parts were
laid on.
"""

import base64
import binascii
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.pictures.picture_files import WHITE, Picture, cropped, encode_picture, put_back, read_picture
from engine.pictures.png_files import LEFT_OUT
from engine.settings import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.loading import GeneratorModel
    from engine.pictures.masks import Mask
    from engine.tasks.inversion import Start
    from engine.tasks.translation import Source

MOST_NUMBERS = 80_000  # of a start: more would not fit into a picture's metadata beside the settings
MOST_UNDER = 1_000_000  # pixels of what was under a mask
MOST_UNDER_TEXT = 400_000  # characters of it
MOST_KEPT_REFERENCES = 64


def edit_extras(start: "Start | None", picture: "Picture | None", text: str) -> dict[str, Any]:
    """Of a picture that an edit made. text: what the picture was called that it began at."""
    kept = start and start_to_dict(start)
    known = {"start": kept} if kept else {LEFT_OUT: ["start"]} if start else {}
    return known | _about(picture, text)


def inpaint_extras(mask: bytes, prepared: "Mask | None", picture: "Picture", text: str) -> dict[str, Any]:
    """Of a repainted picture: the mask, and what was under it, as far as that is small enough.

    mask: as `masks.encode_mask` wrote it; prepared: as `prepare_mask` returned it, if that is known yet.
    """
    from engine.pictures.masks import bounds

    known: dict[str, Any] = {"mask": base64.b64encode(mask).decode()}
    left, top, right, bottom = (0, 0, 0, 0) if prepared is None else bounds(prepared)
    if 0 < (right - left) * (bottom - top) <= MOST_UNDER:
        under = base64.b64encode(encode_picture(cropped(picture, left, top, right, bottom))).decode()
        if len(under) <= MOST_UNDER_TEXT:
            known["under"] = [left, top, under]
    return known | _about(picture, text)


def translate_extras(source: "Source", references: Sequence["Source"], text: str) -> dict[str, Any]:
    """Of a translated picture: what was translated and the references, as the model saw them."""

    def kept(one: "Source") -> str:
        return base64.b64encode(encode_picture(Picture(one.pixels))).decode()

    known: dict[str, Any] = {"source": kept(source)}
    if references:
        known["references"] = [kept(one) for one in references]
    return known | _about(source.picture, text)


def translated_from(extra: Mapping[str, Any]) -> "tuple[Picture | None, tuple[Picture, ...]]":
    """What `translate_extras` kept: the picture and its references, as far as they were not too large.

    Raises SettingsError for what it cannot have made.
    """
    from engine.errors import PictureError

    def read(text: Any, name: str) -> Picture:
        return read_picture(base64.b64decode(text, validate=True), name=name)

    try:
        references = extra.get("references", [])
        if not isinstance(references, list) or len(references) > MOST_KEPT_REFERENCES:
            raise ValueError
        source = read(extra["source"], str(extra.get("text", ""))[:200]) if "source" in extra else None
        return source, tuple(read(one, f"reference {number}") for number, one in enumerate(references, 1))
    except (TypeError, ValueError, PictureError) as error:
        raise SettingsError("source: the pictures inside the picture, from which it was made, are damaged.") from error


def picture_before(saved: "Picture", extra: Mapping[str, Any]) -> "Picture":
    """A repainted picture with what was under the mask put back; itself where nobody kept that.

    Raises SettingsError for something that `inpaint_extras` cannot have made.
    """
    if "under" not in extra:
        return saved
    from engine.errors import PictureError

    try:
        left, top, text = extra["under"]
        under = read_picture(base64.b64decode(text, validate=True), background=background_of(extra))
        if type(left) is not int or type(top) is not int or left < 0 or top < 0:
            raise ValueError
        return put_back(saved, under, left, top)
    except (TypeError, ValueError, PictureError) as error:
        raise SettingsError("under: what was under the mask, inside the picture, is damaged.") from error


def _about(picture: "Picture | None", text: str) -> dict[str, Any]:
    if picture is None or picture.transparency is None:
        return {"text": text}
    return {"text": text, "background": "#" + bytes(picture.transparency.background).hex()}


def background_of(extra: Mapping[str, Any]) -> tuple[int, int, int]:
    """What the transparent parts of a picture were laid on; white where nobody says."""
    text = extra.get("background")
    if not isinstance(text, str) or not re.fullmatch("#[0-9a-f]{6}", text):
        return WHITE
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def start_to_dict(start: "Start") -> dict[str, Any] | None:
    """None for one that is too large to be kept (the noise maps of a generator of many pixels)."""
    tensors = {"latents": start.latents, "residual": start.residual, **start.noise}
    if sum(tensor.numel() for tensor in tensors.values()) > MOST_NUMBERS:
        return None
    return {
        "latents": packed(start.latents),
        "residual": packed(start.residual),
        "noise": {name: packed(values) for name, values in start.noise.items()},
    }


def start_from_dict(values: Any, generator: "GeneratorModel") -> "Start":
    """The picture is drawn again by the generator. Raises SettingsError for values that do not fit it."""
    import torch

    from engine.latents.styles import noisy_layers
    from engine.tasks.inversion import Renderer, Start

    if not isinstance(values, Mapping) or not isinstance(values.get("noise", {}), Mapping):
        raise _damaged()
    renderer, own = Renderer(generator), noisy_layers(generator.network.synthesis)
    noise = {str(name): unpacked(one) for name, one in values.get("noise", {}).items()}
    latents, residual = unpacked(values.get("latents")), unpacked(values.get("residual"))
    wanted = renderer.space.shape, (renderer.synthesis.size,)
    if (tuple(latents.shape), tuple(residual.shape)) != wanted:
        raise SettingsError("start: this picture was made with another model than its settings name.")
    if any(name not in own or one.shape != own[name].shape for name, one in noise.items()):
        raise _damaged()
    mean = renderer.space.whitened.statistics.mean  # where the generator's numbers lie
    latents, residual, noise = latents.to(mean), residual.to(mean), {name: one.to(mean) for name, one in noise.items()}
    with torch.no_grad():
        image = Renderer(generator, noise).render(latents[None], residual)
    return Start(latents, residual, image, image, noise, in_domain=True)


def packed(tensor: "Tensor") -> list[Any]:
    """Its shape, and its numbers as float32 in base64."""
    numbers = tensor.detach().cpu().float().contiguous().numpy().astype("<f4")
    return [*tensor.shape, base64.b64encode(numbers.tobytes()).decode()]


def unpacked(value: Any) -> "Tensor":
    """Raises SettingsError for anything that `packed` cannot have made, numbers that are none included."""
    import numpy as np
    import torch

    if not isinstance(value, list) or len(value) < 2 or not isinstance(value[-1], str):
        raise _damaged()
    *shape, text = value
    if not all(type(size) is int and 0 < size <= MOST_NUMBERS for size in shape):
        raise _damaged()
    try:
        numbers = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    except (ValueError, binascii.Error) as error:
        raise _damaged() from error
    if numbers.size != math.prod(shape) or not np.isfinite(numbers).all():
        raise _damaged()
    return torch.from_numpy(numbers.reshape(shape).copy())


def _damaged() -> SettingsError:
    return SettingsError("start: where the edit began, inside the picture, is damaged.")

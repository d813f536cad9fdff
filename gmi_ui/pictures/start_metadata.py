"""Where an edit began, as plain JSON values inside a saved picture, and back: exact to the last bit."""

import base64
import binascii
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.settings import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.loading import GeneratorModel
    from engine.tasks.inversion import Start

MOST_NUMBERS = 80_000  # of a start: more would not fit into a picture's metadata beside the settings
DAMAGED = SettingsError("start: where the edit began, inside the picture, is damaged.")


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

    from engine.tasks.inversion import Renderer, Start

    if not isinstance(values, Mapping) or not isinstance(values.get("noise", {}), Mapping):
        raise DAMAGED
    noise = {str(name): unpacked(one) for name, one in values.get("noise", {}).items()}
    latents, residual = unpacked(values.get("latents")), unpacked(values.get("residual"))
    renderer = Renderer(generator)
    wanted = renderer.space.shape, (renderer.synthesis.size,)
    if (tuple(latents.shape), tuple(residual.shape)) != wanted:
        raise SettingsError("start: this picture was made with another model than its settings name.")
    try:
        renderer = Renderer(generator, noise)
        with torch.no_grad():
            image = renderer.render(latents[None], residual)
    except (RuntimeError, KeyError) as error:  # noise maps that are not the generator's
        raise DAMAGED from error
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
        raise DAMAGED
    *shape, text = value
    if not all(type(size) is int and 0 < size <= MOST_NUMBERS for size in shape):
        raise DAMAGED
    try:
        numbers = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    except (ValueError, binascii.Error) as error:
        raise DAMAGED from error
    if numbers.size != math.prod(shape) or not np.isfinite(numbers).all():
        raise DAMAGED
    return torch.from_numpy(numbers.reshape(shape).copy())

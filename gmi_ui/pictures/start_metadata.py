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

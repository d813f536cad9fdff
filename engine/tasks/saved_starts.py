"""The start of an edit from a file: a picture's place in the model as other programs or `invert` saved it."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.checkpoints.saved_w import SavedW, is_saved_w, read_saved_w
from engine.errors import PictureError
from engine.latents.styles import noisy_layers
from engine.tasks.inversion import Renderer, Start, start_from_ws

if TYPE_CHECKING:
    from engine.models.loading import GeneratorModel

__all__ = ["is_saved_w", "saved_start"]


def saved_start(path: Path, generator: "GeneratorModel") -> Start:
    """The start that a file keeps. Raises Refused for a file that is none, PictureError for one of another model,
    SettingsError for a model that is no StyleGAN2.
    """
    renderer = Renderer(generator)
    saved = read_saved_w(path)
    if saved.latents is not None:
        return _own_start(saved, saved.latents, generator, renderer)
    assert saved.ws is not None
    return start_from_ws(renderer, _as_ws(saved, saved.ws, generator, renderer))


def _as_ws(saved: SavedW, ws: Tensor, generator: "GeneratorModel", renderer: Renderer) -> Tensor:
    """[1, L, w_dim], of one w for all layers too, and of whatever ones stand before."""
    layers, w_dim = renderer.space.layers, generator.network.w_dim
    rows, numbers = ws.shape[-2:] if ws.ndim > 1 else (1, len(ws))
    if (pictures := ws.shape[:-2].numel()) > 1:
        raise PictureError(
            f"{saved.name} holds the w of {pictures} pictures, expected one. Save the one that you mean by itself."
        )
    if numbers != w_dim or rows not in (1, layers):
        raise PictureError(
            f"{saved.name} holds {_counted(rows)} of {numbers} numbers, but {generator.name} draws from {layers} w of "
            f"{w_dim}, or one for all. It was made with another model: choose that one."
        )
    return ws.reshape(1, rows, w_dim).expand(-1, layers, -1).to(renderer.space.whitened.statistics.mean)


def _counted(rows: int) -> str:
    return "one w" if rows == 1 else f"{rows} w"


def _own_start(saved: SavedW, latents: Tensor, generator: "GeneratorModel", renderer: Renderer) -> Start:
    """As `invert` found it, noise included."""
    mean = renderer.space.whitened.statistics.mean
    residual = torch.zeros(renderer.synthesis.size) if saved.residual is None else saved.residual
    wanted = {name: values.shape for name, values in noisy_layers(generator.network.synthesis).items()}
    found = {name: values.shape for name, values in saved.noise.items()}
    shapes = (tuple(latents.shape), tuple(residual.shape))
    if shapes != (renderer.space.shape, (renderer.synthesis.size,)) or found not in ({}, wanted):
        raise PictureError(f"{saved.name} was made with another model than {generator.name}: choose that one.")
    latents, residual = latents.to(mean), residual.to(mean)
    noise = {name: values.to(mean) for name, values in saved.noise.items()}
    with torch.no_grad():
        image = Renderer(generator, noise).render(latents[None], residual)
    return Start(latents, residual, image, image, noise, in_domain=True)

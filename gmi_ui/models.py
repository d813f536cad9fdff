"""The models of the studio: loaded through the engine, which keeps them, and the default ones before the first run.

How a model is loaded is handed in (`Loaders`), so that tests run the whole studio on tiny networks. The
engine's own loaders import torch, which takes seconds: they do so when first called, not when the page is
built.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import ModelError
from engine.model_table import ModelRow, list_models
from engine.settings import GenerateSettings
from gmi_ui.notices import Notice, explain

if TYPE_CHECKING:
    from torch import Tensor

    from engine.clip import PromptModel
    from engine.models import GeneratorModel

GALLERY_SIZE = 24
GALLERY_SEED = 1
GALLERY_SIDE = 256  # pixels
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaders:
    """Where models come from."""

    generator: "Callable[[str], GeneratorModel]"
    prompt_model: "Callable[[str], PromptModel]"
    rows: Callable[[], Sequence[ModelRow]]  # of the bundled models; must not take long
    prepare: Callable[[], object] = lambda: None  # called once, before the first model is loaded


def engine_loaders(device: str = "auto", threads: int | None = None) -> Loaders:
    """The engine's own loaders."""

    def generator(name: str) -> "GeneratorModel":
        from engine import models, runtime

        return models.load_generator(name, runtime.check_device(device))

    def prompt_model(name: str) -> "PromptModel":
        from engine import models, runtime

        return models.load_prompt_model(name, runtime.check_device(device))

    def prepare() -> None:
        from engine import runtime

        runtime.set_threads(threads)

    return Loaders(generator, prompt_model, list_models, prepare)


class Models:
    """The way to the models. Thread-safe; the loaders keep what they loaded, and try again what failed."""

    def __init__(self, loaders: Loaders) -> None:
        self._loaders = loaders
        self._hashes: dict[str, str] = {}
        self._prepared = False
        self._lock = threading.Lock()
        self._warmed = threading.Event()
        self.trouble: Notice | None = None  # why `warm` failed
        self.gallery: tuple[bytes, ...] = ()  # JPEGs of random samples, once warm: see `random_latents`

    def generator(self, name: str) -> "GeneratorModel":
        """Raises engine.errors.ModelError for a missing or damaged file."""
        self._prepare()
        model = self._loaders.generator(name)
        self._hashes[name] = model.sha256
        return model

    def prompt_model(self, name: str) -> "PromptModel":
        """Raises engine.errors.ModelError for a missing or damaged file."""
        self._prepare()
        model = self._loaders.prompt_model(name)
        self._hashes[name] = model.sha256
        return model

    def _prepare(self) -> None:
        with self._lock:
            if not self._prepared:
                self._loaders.prepare()
                self._prepared = True

    def names(self, kind: str = "generator") -> list[str]:
        """The bundled models of a kind; none where the table of models is damaged, which loading one then tells."""
        return [row.name for row in self._rows() if row.kind == kind]

    def examples(self, name: str) -> tuple[str, ...]:
        """Prompts that suit a generator, without loading it; none for a file of the user's own."""
        return next((row.examples for row in self._rows() if row.name == name), ())

    def _rows(self) -> Sequence[ModelRow]:
        try:
            return self._loaders.rows()
        except ModelError as error:
            _log.warning("%s", error)
            return ()

    def hash_of(self, name: str) -> str | None:
        """The hash of a model that was loaded; None for others."""
        return self._hashes.get(name)

    @property
    def is_warm(self) -> bool:
        """Whether `warm` has ended, well or badly."""
        return self._warmed.is_set()

    def warm(self, defaults: GenerateSettings) -> threading.Thread:
        """Loads the default models and draws the gallery on a thread; `trouble` tells of a failure."""
        thread = threading.Thread(target=self._warm, args=(defaults,), name="warming", daemon=True)
        thread.start()
        return thread

    def _warm(self, defaults: GenerateSettings) -> None:
        try:
            generator = self.generator(defaults.model)
            self.gallery = random_pictures(generator)
            self.prompt_model(defaults.prompt_model).text_features([defaults.prompt])
        except Exception as error:  # the page must come up without its models, and say so
            self.trouble = explain(error)
        finally:
            self._warmed.set()


def random_latents(generator: "GeneratorModel", count: int = GALLERY_SIZE) -> "Tensor":
    """Of the gallery's pictures: samples of the default latent space."""
    return generator.spaces[generator.default_space].sample(range(GALLERY_SEED, GALLERY_SEED + count))


def random_pictures(generator: "GeneratorModel") -> tuple[bytes, ...]:
    """JPEGs of random samples: what a first visitor sees."""
    import torch

    from engine import imaging

    with torch.no_grad():
        images = generator.render(random_latents(generator), generator.default_space)
    return tuple(imaging.to_jpeg(image, max_side=GALLERY_SIDE) for image in imaging.to_uint8(images))

"""The models of the studio: loaded through the engine, which keeps them, and the default ones before the first run.

How a model is loaded is handed in (`Loaders`), so that tests run the whole studio on tiny networks. The
engine's own loaders import torch, which takes seconds: they do so when first called, not when the page is
built.
"""

import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine.errors import LoadingStopped, ModelError
from engine.families import find_family
from engine.families.declaration import Family
from engine.models import store
from engine.models.table import PUBLIC_PREFIX, ModelRow, list_models
from engine.settings import GenerateSettings
from engine.system import memory
from engine.system.files import Watch
from gmi_ui.models.timing import StepTimes
from gmi_ui.notices import Notice, explain, shortened_path

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.clip import PromptModel
    from engine.models.loading import GeneratorModel
    from engine.models.pool import ModelPool
    from engine.models.store import OwnModel

GALLERY_SIZE = 24
GALLERY_SEED = 1
GALLERY_CHUNK = 4
GALLERY_SIDE = 192  # pixels
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaders:
    """Where models come from."""

    generator: "Callable[[str], GeneratorModel]"
    prompt_model: "Callable[[str], PromptModel]"
    rows: Callable[[], Sequence[ModelRow]]  # of the bundled models; must not take long
    prepare: Callable[[], object] = lambda: None  # called once, before the first model is loaded
    stored: Callable[[], Sequence[ModelRow]] = lambda: ()  # of fetched models and files of the user's own
    inspect: "Callable[[Path, str], OwnModel] | None" = None  # a file, and an architecture or ""
    # While it is entered, what the thread loads tells the watch how far it is, and is not given up again.
    serving: Callable[[Watch], AbstractContextManager[None]] = lambda watch: nullcontext()
    pool: "Callable[[], ModelPool | None]" = lambda: None  # None before anything was loaded
    memory: Callable[[], tuple[int | None, int | None]] = lambda: (memory.free_memory(), memory.total_memory())


def engine_loaders(device: str = "auto", threads: int | None = None) -> Loaders:
    """The engine's own loaders."""
    mine = threading.local()

    def watch() -> Watch | None:
        return getattr(mine, "watch", None)

    def generator(name: str) -> "GeneratorModel":
        from engine.models import loading
        from engine.system import runtime

        return loading.load_generator(name, runtime.check_device(device), watch=watch())

    def prompt_model(name: str) -> "PromptModel":
        from engine.models import loading
        from engine.system import runtime

        return loading.load_prompt_model(name, runtime.check_device(device), watch=watch())

    def inspect(path: Path, architecture: str) -> "OwnModel":
        from engine.models import loading
        from engine.system import runtime

        where = runtime.check_device(device)
        return loading.inspect_file(path, architecture=architecture, device=where, watch=watch())

    @contextmanager
    def serving(told: Watch) -> Iterator[None]:
        from engine.models.loading import POOL

        with POOL.holding():
            mine.watch = told
            try:
                yield
            finally:
                mine.watch = None

    def prepare() -> None:
        from engine.models.loading import POOL
        from engine.system import runtime

        runtime.set_threads(threads)
        if budget := store.stored_budget():
            POOL.set_budget(budget)

    def pool() -> "ModelPool | None":
        return getattr(sys.modules.get("engine.models.loading"), "POOL", None)  # it may be half imported

    return Loaders(
        generator, prompt_model, list_models, prepare, store.stored_rows, inspect, serving, pool, _memory(device)
    )


def _memory(device: str) -> Callable[[], tuple[int | None, int | None]]:
    """Free and all bytes of the memory that models are loaded into: the GPU's own where there is one."""

    def measure() -> tuple[int | None, int | None]:
        torch = sys.modules.get("torch")  # not imported for this: it takes seconds
        if device != "cpu" and torch is not None and torch.cuda.is_available():
            free, total = torch.cuda.mem_get_info()
            return int(free), int(total)
        return memory.free_memory(), memory.total_memory()

    return measure


class Served(Protocol):
    """Who has models loaded: a work of the queue, or an transfer of the Models tab."""

    @property
    def is_stopping(self) -> bool: ...

    def tell(self, doing: str, share: float | None = None) -> None: ...


def watch_of(served: Served) -> Watch:
    """Tells `served` how far a long work is, and ends it with LoadingStopped where that is being stopped."""

    def watch(doing: str, share: float | None) -> None:
        if served.is_stopping:
            raise LoadingStopped("The loading was stopped.")
        served.tell(doing, share)

    return watch


class Models:
    """The way to the models. Thread-safe; the loaders keep what they loaded, and try again what failed."""

    def __init__(self, loaders: Loaders) -> None:
        self._loaders = loaders
        self._hashes: dict[str, str] = {}
        self.step_times = StepTimes()
        self._prepared = False
        self._lock = threading.Lock()
        self._warmed = threading.Event()
        self._failure: Notice | None = None  # of `warm`
        self.gallery: tuple[bytes, ...] = ()  # JPEGs of random samples, once warm: see `random_latents`

    def generator(self, name: str) -> "GeneratorModel":
        """Raises engine.errors.ModelError for a missing or damaged file, and one that nobody opened here."""
        self._check_listed(name)
        self._prepare()
        model = self._loaders.generator(name)
        self._hashes[name] = model.sha256
        return model

    def prompt_model(self, name: str) -> "PromptModel":
        """Raises as `generator`."""
        self._check_listed(name)
        self._prepare()
        model = self._loaders.prompt_model(name)
        self._hashes[name] = model.sha256
        return model

    def _check_listed(self, name: str) -> None:
        """Raises ModelError for a file, or a model to be fetched, that is not in the list.

        A saved picture, and whoever talks to the server, can name any.
        """
        if not re.fullmatch(r"[\w-]+", name) and all(row.name != name for row in self._rows()):
            raise ModelError(
                f"{shown_name(name)} is not among the models here. If you trust where it comes from, open or download "
                "it in the Models tab first, then try again."
            )

    @contextmanager
    def serving(self, served: Served) -> Iterator[None]:
        """What the thread loads inside tells `served` how far it is, ends with LoadingStopped where that stops, and
        stays loaded until the end.
        """
        self._prepare()
        with self._loaders.serving(watch_of(served)):
            yield

    def inspect(self, path: Path, architecture: str = "") -> "OwnModel":
        """What a file of the user's own is; see `engine.models.loading.inspect_file`. Raises ModelError."""
        self._prepare()
        if self._loaders.inspect is None:
            raise ModelError("Files cannot be opened here.")
        return self._loaders.inspect(path, architecture)

    @property
    def pool(self) -> "ModelPool | None":
        """The loaded models; None before any was loaded."""
        return self._loaders.pool()

    def is_loaded(self, *names: str) -> bool:
        """Whether all of these models can be used without a wait."""
        if self.pool is None:
            return self.is_warm
        loaded = {one.key[1] for one in self.pool.kept()}
        return loaded.issuperset(names)

    def memory(self) -> tuple[int | None, int | None]:
        """Free and all bytes of the memory that models are loaded into; None where nothing tells."""
        return self._loaders.memory()

    def rows(self) -> Sequence[ModelRow]:
        """All models that are here: bundled, fetched, the user's own."""
        return self._rows()

    def _prepare(self) -> None:
        with self._lock:
            if not self._prepared:
                self._loaders.prepare()
                self._prepared = True

    def names(self, kind: str = "generator", *, task: str | None = None) -> list[str]:
        """The models of a kind; none where the table of models is damaged, which loading one then tells.

        task: only generators that can be used for it.
        """
        rows = [row for row in self._rows() if row.kind == kind]
        return [row.name for row in rows if task is None or task in find_family(row.family).possible_tasks]

    def choices(self, kind: str = "generator", *, task: str | None = None) -> list[tuple[str, str]]:
        """What a person reads, and the name, of each; files of the same name are told apart by their folder."""
        names = self.names(kind, task=task)
        short = [name.rstrip("/\\").replace("\\", "/").rpartition("/")[2] for name in names]
        return [
            (label if short.count(label) == 1 and not name.startswith(PUBLIC_PREFIX) else name, name)
            for label, name in zip(short, names, strict=True)
        ]

    def row(self, name: str) -> ModelRow | None:
        """What is known of a generator without loading it; None for a file that was not opened yet."""
        return next((row for row in self._rows() if row.name == name and row.kind == "generator"), None)

    def family(self, name: str) -> Family:
        """That of a generator, without loading it; for a file that was not opened yet one of which nothing is known."""
        row = self.row(name)
        return find_family(row.family if row else "")

    def opened(self, name: str) -> ModelRow | None:
        """A fetched model, or a file that was opened once: it is known to load. None for others."""
        return next((row for row in self._read(self._loaders.stored) if row.name == name), None)

    def examples(self, name: str) -> tuple[str, ...]:
        """Prompts that suit a generator, without loading it; none for a file of the user's own."""
        return next((row.examples for row in self._rows() if row.name == name), ())

    def _rows(self) -> Sequence[ModelRow]:
        return [*self._read(self._loaders.rows), *self._read(self._loaders.stored)]

    @staticmethod
    def _read(source: Callable[[], Sequence[ModelRow]]) -> Sequence[ModelRow]:
        try:
            return source()
        except ModelError as error:
            _log.warning("%s", error)
            return ()

    def hash_of(self, name: str) -> str | None:
        """Of a model that was loaded; of others the one that their row records, None where it records none."""
        if name in self._hashes:
            return self._hashes[name]
        row = next((row for row in self._rows() if row.name == name), None)
        return row.main_sha256 if row else None

    @property
    def is_warm(self) -> bool:
        """Whether `warm` has ended, well or badly."""
        return self._warmed.is_set()

    @property
    def trouble(self) -> Notice | None:
        """Why `warm` failed, else what became of the newest list of models that was damaged."""
        damaged = store.damaged_lists()
        return self._failure or (damage_notice(damaged[-1]) if damaged else None)

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
            self._failure = explain(error)
        finally:
            self._warmed.set()


@lru_cache(maxsize=16)
def damage_notice(damaged: store.DamagedList) -> Notice:
    """What a person should know of it; the same notice each time, which a page can dismiss."""
    return Notice(
        f"{shortened_path(damaged.path)} was damaged and set aside as {damaged.kept.name}; a new one "
        "begins. Models that are missing now can be fetched or opened again in the Models tab.",
        "warning",
    )


def random_latents(generator: "GeneratorModel", count: int = GALLERY_SIZE) -> "Tensor":
    """Of the gallery's pictures: samples of the default latent space."""
    return generator.spaces[generator.default_space].sample(range(GALLERY_SEED, GALLERY_SEED + count))


def random_pictures(generator: "GeneratorModel") -> tuple[bytes, ...]:
    """JPEGs of random samples: what a first visitor sees."""
    from engine.inference.terms import apply_in_chunks
    from engine.pictures import imaging

    # All at once they take 350 MB more at 256 px, which the process keeps.
    render = partial(generator.render, space=generator.default_space)
    images = apply_in_chunks(render, random_latents(generator), GALLERY_CHUNK)
    return tuple(imaging.to_jpeg(image, max_side=GALLERY_SIDE) for image in imaging.to_uint8(images))


def shown_name(model: str) -> str:
    """A model's name; of a path, its last part."""
    return model.replace("\\", "/").rstrip("/").rpartition("/")[2] or model

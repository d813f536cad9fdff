"""What a family of models declares: its networks, and what runs, commands and the page need to know. Needs no torch.

The page lists all families when it starts, before torch is there: a family's file imports torch, networks and latent
spaces inside its functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from engine.settings import PRESETS, SAMPLERS, FlowSettings, adapted

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from engine.latents.spaces import LatentSpace

    State = Mapping[str, Tensor]
    Synthesis = Callable[[Tensor, LatentSpace], Tensor]  # a space's decoded latents, and the space -> images

CLASS_CHOICES = ("classes", "class_count", "relaxed_classes")
SEARCHING = "Looking for starts that fit the words"  # what a watch is told while candidates are tried
STAGE_STEPS = 60  # of each of the two stages (Zhou et al. 2022, Appendix E)
_LARGEST = 1e9  # of a setting of a network; none is anywhere near, and larger whole numbers fit no tensor
CAUTIOUS_BYTES_PER_PIXEL = 9500.0


@dataclass(frozen=True)
class Option:
    """Something that the shapes of a network's weights cannot tell: its usual value, and what else it may be."""

    name: str
    usual: Any
    expected: str  # in words
    accepts: Callable[[Any], bool]
    about: str


def never(state: State) -> bool:
    """The signature of a network that no bare file is taken for."""
    return False


def has_keys(names: str) -> Callable[[State], bool]:
    """The signature of the one network that has all these keys."""
    wanted = frozenset(names.split())
    return lambda state: wanted <= state.keys()


@dataclass(frozen=True)
class Network:
    """One of a family's networks.

    build: (state dict, **options) -> an untrained network of these keys and shapes; raises ValueError or KeyError for
    a state dict that is none of its. is_in: whether a bare state dict is of this network and no other. in_runs: whether
    a run needs it; others are opened, checked and converted only. keeps_types: its weights stay in the file's types and
    where they lie, on the CPU, for the family's `assemble` to place; else they are float32 and on the model's device.
    """

    build: Callable[..., nn.Module]
    is_in: Callable[[State], bool] = never
    options: tuple[Option, ...] = ()
    in_runs: bool = True
    keeps_types: bool = False


@dataclass(frozen=True)
class Details:
    """What is known of a model beside its networks.

    resolution: 0 where nothing tells; draft_resolution: of smaller pictures that are wanted, 0 for none; latents: what
    a file of that role holds: statistics, codes [M, h, w] where particles may start, or sentence vectors [M, C]; place:
    of that file, for messages; read: texts to sentence vectors [N, C], of a model that says who reads them.
    """

    name: str
    device: torch.device | str
    resolution: int = 0
    draft_resolution: int = 0
    classes: tuple[str, ...] = ()
    latents: Mapping[str, Tensor] = field(default_factory=dict)
    place: str = ""
    read: Callable[[Sequence[str]], Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Assembled:
    """A generator ready to draw.

    default_space: "" for the first one; sketch: pictures of the draft's size; encoder_side: pixels of what the encoder
    reads, 0 where nothing tells; classes: names, in the network's order. left_out: of a generator that is told the
    prompt, the end of a text that it has no place for, which may be empty.
    """

    network: nn.Module
    resolution: int
    spaces: Mapping[str, LatentSpace]
    synthesize: Synthesis
    default_space: str = ""
    sketch: Synthesis | None = None
    discriminator: Callable[[Tensor], Tensor] | None = None
    encoder: nn.Module | None = None
    encoder_side: int = 0
    classes: tuple[str, ...] = ()
    left_out: Callable[[str], str] | None = None


@dataclass(frozen=True)
class Family:
    """Models of one architecture.

    label: for people. tasks: what its models are made for; purpose: that in words, where no tab does it.
    networks: by role, first the one that no model can do without. assemble: makes a generator of the networks that a
    run needs; None for a family that draws nothing from latents alone. bytes_per_pixel: see
    `engine.models.memory.run_bytes`.

    choices: settings that not every family knows, but this one does; spaces: latent spaces to choose from on the page,
    where there is a choice; tuned: its own numbers in all presets whose terms are normalised, so that these differ by
    their estimators alone; raw: its own numbers where they are not ("paper"); has_stages: whether codes move in turn
    after all moved together; candidates: starts that each particle tries; fills_holes: whether its networks take a
    picture with a hole, so that to inpaint nothing has to be found before; index: the file by which a folder of theirs
    is known without opening it, where there is one; bytes_beyond: of pixels of a picture, pictures and denoising steps
    the bytes that a run takes beyond the weights, where that grows otherwise than bytes_per_pixel says.
    """

    name: str
    label: str
    tasks: tuple[str, ...] = ()
    networks: Mapping[str, Network] = field(default_factory=dict)
    assemble: Callable[[Mapping[str, nn.Module], Details], Assembled] | None = None
    purpose: str = ""
    bytes_per_pixel: float = CAUTIOUS_BYTES_PER_PIXEL
    choices: tuple[str, ...] = ("truncation_psi",)
    spaces: tuple[str, ...] = ()
    tuned: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)
    has_stages: bool = False
    candidates: int = 1
    fills_holes: bool = False
    index: str = ""
    bytes_beyond: Callable[[int, int, int], int] | None = None

    @property
    def is_generator(self) -> bool:
        """Whether its models draw pictures from latents, which everything here is about."""
        return self.assemble is not None

    @property
    def possible_tasks(self) -> tuple[str, ...]:
        """What its models can be used for here."""
        return self.tasks if self.is_generator else ()

    @property
    def has_classes(self) -> bool:
        return "classes" in self.choices

    def with_classes(self) -> Family:
        """What is known of those of its models that are told a class, where others of the family are not."""
        missing = tuple(name for name in CLASS_CHOICES if name not in self.choices)
        return replace(self, choices=(*self.choices, *missing))

    @property
    def has_own_choices(self) -> bool:
        """Whether settings that fit one of its models may not fit another, as names of classes or spaces."""
        return bool(self.spaces) or bool(set(self.choices) - {"truncation_psi"}) or self.has_stages

    def flow(self, preset: str = "robust") -> FlowSettings:
        """The numerical choices of a preset, with both stages where there are two; others' samplers as they are."""
        if preset in SAMPLERS:
            return SAMPLERS[preset]
        flow = PRESETS[preset]
        flow = adapted(flow, **self.tuned) if flow.normalise else replace(flow, **self.raw)
        return replace(flow, steps=2 * STAGE_STEPS, detail_steps=STAGE_STEPS) if self.has_stages else flow


# ---- options of networks ---------------------------------------------------------------------------------


def positive(name: str, usual: float, about: str) -> Option:
    return Option(name, usual, "a positive number", _is_positive, about)


def positive_or_none(name: str, about: str) -> Option:
    return Option(name, None, "a positive number or null", lambda value: value is None or _is_positive(value), about)


def count(name: str, usual: int, about: str) -> Option:
    return Option(name, usual, "a whole number", _is_count, about)


def count_or_none(name: str, usual: int | None, about: str) -> Option:
    return Option(name, usual, "a whole number or null", lambda value: value is None or _is_count(value), about)


def switches_or_none(name: str, about: str) -> Option:
    return Option(name, None, "a list of true and false, or null", _are_switches, about)


def one_of(name: str, values: tuple[str, ...], about: str) -> Option:
    """The first value is the usual one."""
    expected = " or ".join(f'"{value}"' for value in values)
    return Option(name, values[0], expected, lambda value: isinstance(value, str) and value in values, about)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LARGEST


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 4096


def _are_switches(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) < 64 and all(isinstance(v, bool) for v in value))

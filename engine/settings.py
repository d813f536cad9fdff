"""What a person may choose: frozen, validated, and convertible to and from JSON.

`FlowSettings` are the numerical choices of the particle flow; `GenerateSettings`, `EditSettings`, `InpaintSettings` and
`TranslateSettings` everything that determines one run of their task, pictures and weights aside. The presets are
rows of one table: "paper" and "robust" are settings of one code path.
"""

import base64
import math
import re
import secrets
import sys
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

Estimator = Literal["krr", "kde", "stein"]
Bandwidth = Literal["nearest", "median", "wide"]
Schedule = Literal["constant", "linear"]
MollifierSpace = Literal["feature", "image"]
Divergence = Literal["kl", "reverse_kl", "js", "hellinger"]
CodeOrder = Literal["rows", "centre", "random"]
MarkName = Literal["like", "unlike", "pin"]
GradientSteps = Literal["all", "last"]
Selection = Literal["", "sir", "drs", "mh"]
EditMethod = Literal["gmi", "clip", "direction", "optimise"]
EditBaseline = Literal["none", "no repulsion", "direction", "optimise"]
TranslateMethod = Literal["flow", "plain"]
TranslateBaseline = Literal["none", "no repulsion", "plain"]
EDIT_METHODS: tuple[EditMethod, ...] = get_args(EditMethod)
EDIT_BASELINES: tuple[EditBaseline, ...] = get_args(EditBaseline)
TRANSLATE_METHODS: tuple[TranslateMethod, ...] = get_args(TranslateMethod)
TRANSLATE_BASELINES: tuple[TranslateBaseline, ...] = get_args(TranslateBaseline)

# Closed ranges of every number a person can set; the page's sliders and the validation read the same table.
LIMITS: Mapping[str, tuple[float, float]] = {
    "n": (1, 64),
    "seed": (0, 2**32 - 1),
    "truncation_psi": (0.05, 1.0),
    "spread": (0.0, 1.0),
    "class_count": (1, 16),
    "cutouts": (0, 64),
    "denoising_steps": (0, 4),
    "width": (0, 2048),
    "height": (0, 2048),
    "start_strength": (0.1, 1.0),
    "reward_weight": (0.0, 100.0),
    "candidates": (1, 1024),
    "draws": (2, 128),
    "strength": (-3.0, 3.0),
    "disentanglement": (0.0, 0.6),
    "identity": (0.0, 10.0),
    "grow": (-256, 256),
    "feather": (0, 256),
    "known_weight": (0.0, 100.0),
    "style_scale": (0.05, 4.0),
    "content_scale": (0.0, 4.0),
    "steps": (1, 1000),
    "step_size": (1e-6, 1.0),
    "diversity": (0.0, 2.0),
    "diversity_gain": (0.0, 100.0),
    "kept_opposition": (0.0, 1.0),
    "data_weight": (0.0, 100.0),
    "condition_weight": (0.0, 1000.0),
    "realism": (0.0, 100.0),
    "prior": (0.0, 100.0),
    "transport": (0.0, 100.0),
    "codebook": (0.0, 100.0),
    "detail_steps": (0, 1000),
    "bandwidth": (1e-6, 1e6),
    "eta": (1e-6, 1e6),
    "mollifier": (0.0, 10.0),
    "mollifier_samples": (1, 64),
    "langevin": (0.0, 10.0),
    "chunk": (1, 4096),
}
MOST_AT_ALL = int(LIMITS["chunk"][1])  # pictures of a run that no page shows
SCALES = (1, 2, 4)  # how many times as large a picture can be saved as it was made
RANDOM_SEED = -1  # what people write who want another one each time
_DRAWN_SEEDS = 2**31
PROMPT_LIMIT = 5_000  # characters; what exceeds the text encoder's context is cut, and said, by the prompt model
CONTRAST_LIMIT = 32  # contrast prompts
CHANGES_LIMIT = 1_000  # moves of a slider that a run remembers: one a step of the longest
MARKS_LIMIT = 1_000  # marks that are set or taken off while a run goes on
OF_THE_MODEL = "model"  # of `towards`: the examples that the generator comes with
START_LIMIT = 1_000_000  # numbers in a kept latent; the largest public W+ has 9,216
PINNED_LIMIT = 80_000  # numbers in all pinned latents: 427 kB of the text that a picture's metadata may hold

Check = Callable[[str, Any], None]


class Mark(NamedTuple):
    """A mark that a person set on a picture, or took off, when a run was at a step. picture: its place, from 0."""

    step: int
    picture: int
    name: MarkName
    is_set: bool


class Pin(NamedTuple):
    """A particle that stays as it is. place: from 0; seed: what it once began from; latent: base64 of its numbers,
    flattened, as little-endian float32."""

    place: int
    seed: int
    latent: str

    @classmethod
    def of(cls, place: int, seed: int, numbers: Iterable[float]) -> Self:
        """numbers: of a latent, of float32's precision."""
        return cls(place, seed, base64.b64encode(_little_endian(array("f", numbers)).tobytes()).decode())

    @property
    def numbers(self) -> "array[float]":
        """The latent's. Raises ValueError where the text is none that `of` makes."""
        numbers = array("f")
        numbers.frombytes(base64.b64decode(self.latent, validate=True))
        return _little_endian(numbers)


def _little_endian(numbers: "array[float]") -> "array[float]":
    """From or to the machine's own order."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def random_seed() -> int:
    """A seed for a run that was given none: it is drawn once, shown and saved like any other."""
    return secrets.randbelow(_DRAWN_SEEDS)


class SettingsError(ValueError):
    """A setting that cannot be used; the message names the setting, what it got, and what is possible."""


class RangeError(SettingsError):
    """A number outside of its limits."""

    def __init__(self, name: str, value: Any, low: float, high: float) -> None:
        super().__init__(f"{name}: {_shown(value)} is outside {plain(low)} to {plain(high)}.")
        self.name, self.value = name, value

    def within(self, low: float, high: float) -> "RangeError":
        """The same with other limits, such as the ends of a slider that is shorter."""
        return RangeError(self.name, self.value, low, high)


def plain(number: float) -> str:
    """A number as people write it: 4294967295 and 0.000001, not 4.29497e+09 and 1e-06."""
    return str(int(number)) if float(number).is_integer() else f"{number:.9f}".rstrip("0").rstrip(".")


def _number(name: str, value: Any) -> None:
    low, high = LIMITS[name]
    # The comparison, unlike math.isfinite, also survives whole numbers too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -math.inf < value < math.inf:
        raise SettingsError(f"{name}: expected a number from {plain(low)} to {plain(high)}, got {_shown(value)}.")
    if not low <= value <= high:
        raise RangeError(name, value, low, high)


def _whole_number(name: str, value: Any) -> None:
    if not isinstance(value, int):
        low, high = LIMITS[name]
        raise SettingsError(f"{name}: expected a whole number from {plain(low)} to {plain(high)}, got {_shown(value)}.")
    _number(name, value)


def _many(name: str, value: Any) -> None:
    if type(value) is not int or not 1 <= value <= MOST_AT_ALL:
        raise RangeError(name, value, 1, MOST_AT_ALL)


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise SettingsError(f"{name}: expected true or false, got {_shown(value)}.")


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise SettingsError(f"{name}: expected text, got {_shown(value)}.")
    if not value.strip():
        raise SettingsError(f"{name}: is empty; write a few words.")
    if len(value) > PROMPT_LIMIT:
        raise SettingsError(f"{name}: has {len(value):,} characters; shorten it to {PROMPT_LIMIT:,} or fewer.")
    if any("\ud800" <= character <= "\udfff" for character in value):  # could not be written to any file
        raise SettingsError(f"{name}: has half a character in it (a lone surrogate); type it anew.")


def _text_or_nothing(name: str, value: Any) -> None:
    if value != "":
        _text(name, value)


def _text_or_blank(name: str, value: Any) -> None:
    if not isinstance(value, str) or value.strip():
        _text(name, value)


def _texts(name: str, value: Any) -> None:
    if not isinstance(value, tuple) or len(value) > CONTRAST_LIMIT:
        raise SettingsError(f"{name}: expected at most {CONTRAST_LIMIT} texts, got {_shown(value)}.")
    for text in value:
        _text(name, text)


def _numbers(name: str, value: Any) -> None:
    if (
        not isinstance(value, tuple)
        or not 0 < len(value) <= START_LIMIT
        or not all(type(number) in (int, float) and abs(number) < 1e6 for number in value)
    ):
        raise SettingsError(f"{name}: expected a kept latent, a list of numbers, got {_shown(value)}.")


def _pins(name: str, value: Any) -> None:
    if not isinstance(value, tuple) or not all(isinstance(pin, Pin) for pin in value):
        raise SettingsError(f"{name}: expected kept latents as [place, seed, base64], got {_shown(value)}.")
    counts = []
    for pin in value:
        _whole_number("seed", pin.seed)
        counts.append(_count_of(name, pin))
    places = [pin.place for pin in value]
    if not all(type(place) is int and place >= 0 for place in places) or len(set(places)) < len(places):
        raise SettingsError(f"{name}: expected different places from 0 on, got {_shown(places)}.")
    if sum(counts) > PINNED_LIMIT:
        raise SettingsError(f"{name}: so many latents of this model cannot be kept with a picture; pin fewer.")


def _count_of(name: str, pin: Pin) -> int:
    """How many numbers the latent has. Raises SettingsError for what is none."""
    try:
        numbers = pin.numbers
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{name}: a pinned latent is damaged, it is no base64 of float32 numbers.") from error
    if not numbers or not all(abs(number) < 1e6 for number in numbers):
        raise SettingsError(f"{name}: a pinned latent is damaged, some of its numbers are none.")
    return len(numbers)


def _marks(name: str, value: Any) -> None:
    if not isinstance(value, tuple) or len(value) > MARKS_LIMIT:
        raise SettingsError(f"{name}: expected at most {MARKS_LIMIT:,} marks set during a run, got {_shown(value)}.")
    for mark in value:
        is_mark = isinstance(mark, Mark) and mark.name in get_args(MarkName) and type(mark.is_set) is bool
        if not is_mark or not all(type(number) is int and number >= 0 for number in mark[:2]):
            raise SettingsError(f"{name}: expected [step, picture, name, whether it is set], got {_shown(mark)}.")
    steps = [mark.step for mark in value]
    if steps != sorted(steps):
        raise SettingsError(f"{name}: the steps must rise, got {_shown(steps)}.")


def _towards(name: str, value: Any) -> None:
    if not isinstance(value, str) or (value not in ("", OF_THE_MODEL) and not re.fullmatch("[0-9a-f]{64}", value)):
        raise SettingsError(
            f"{name}: expected nothing, {OF_THE_MODEL!r}, or the hash of pictures (64 hexadecimal digits), got "
            f"{_shown(value)}."
        )


def _hash_or_nothing(name: str, value: Any) -> None:
    if not isinstance(value, str) or (value != "" and not re.fullmatch("[0-9a-f]{64}", value)):
        raise SettingsError(
            f"{name}: expected nothing, or the hash of pictures (64 hexadecimal digits), got {_shown(value)}."
        )


def _changes(name: str, value: Any) -> None:
    if not isinstance(value, tuple) or len(value) > CHANGES_LIMIT:
        raise SettingsError(f"{name}: expected at most {CHANGES_LIMIT:,} changes during a run, got {_shown(value)}.")
    for change in value:
        if not isinstance(change, tuple) or len(change) != 3 or type(change[0]) is not int or change[0] < 0:
            raise SettingsError(f"{name}: expected (step, step size, diversity), got {_shown(change)}.")
        _number("step_size", change[1])
        _number("diversity", change[2])
    steps = [change[0] for change in value]
    if steps != sorted(set(steps)):
        raise SettingsError(f"{name}: the steps must rise, got {_shown(steps)}.")


def _stop(name: str, value: Any) -> None:
    high = LIMITS["steps"][1]
    if type(value) is not int or not 0 <= value <= high:
        raise SettingsError(f"{name}: expected the step a run was stopped at, 0 to {plain(high)}, got {_shown(value)}.")


def _beside(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, GenerateSettings) or value.beside is not None):
        raise SettingsError(f"{name}: expected the settings of one other run, got {_shown(value)}.")


def _choice(*choices: str) -> Check:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in choices:
            raise SettingsError(f"{name}: {_shown(value)} is unknown; choose one of {', '.join(choices)}.")

    return check


def _choice_or_number(*choices: str) -> Check:
    choice = _choice(*choices)
    return lambda name, value: choice(name, value) if isinstance(value, str) else _number(name, value)


def _optional(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a very large number"
    return text if len(text) <= 60 else text[:57] + "..."


def _check_fields(settings: Any, checks: Mapping[str, Check]) -> None:
    for name, check in checks.items():
        check(name, getattr(settings, name))


_FLOW_CHECKS: Mapping[str, Check] = {
    "steps": _whole_number,
    "step_size": _number,
    "step_schedule": _choice(*get_args(Schedule)),
    "diversity": _number,
    "diversity_gain": _number,
    "data_weight": _number,
    "condition_weight": _number,
    "realism": _number,
    "prior": _number,
    "transport": _number,
    "smoothed": _flag,
    "codebook": _number,
    "detail_steps": _whole_number,
    "code_order": _choice(*get_args(CodeOrder)),
    "estimator": _choice(*get_args(Estimator)),
    "bandwidth": _choice_or_number(*get_args(Bandwidth)),
    "eta": _choice_or_number("positive"),
    "conflict_free": _flag,
    "kept_opposition": _number,
    "diversity_schedule": _choice(*get_args(Schedule)),
    "mollifier": _number,
    "mollifier_space": _choice(*get_args(MollifierSpace)),
    "mollifier_samples": _whole_number,
    "normalise": _flag,
    "constrain": _flag,
    "langevin": _number,
    "divergence": _choice(*get_args(Divergence)),
    "chunk": _optional(_whole_number),
    "changes": _changes,
    "until": _optional(_stop),
}


@dataclass(frozen=True)
class FlowSettings:
    """Numerical choices of Algorithm 1; the defaults are the preset "robust".

    The weights l1, l2, l3 of Eq. 6 are `diversity` times `diversity_gain`, `data_weight` and `condition_weight`.
    `changes` and `until` tell how a run went that a person steered: whoever drives `refine` sends `at(step)` before
    every step and closes it at `last_step`, and so makes that run again bit for bit.
    """

    steps: int = 60
    # Large first steps explore, falling ones settle: on the bundled avatars and 10 prompts, 0.15, 0.25 and 0.35 have
    # 1.4, 1.6 and 1.9 times the baseline's diversity and -3.5, +0.2 and +0.8 points of its requested attributes.
    step_size: float = 0.3  # relative to the latent space's scale when `normalise`, absolute otherwise
    step_schedule: Schedule = "linear"  # "linear": from `step_size` to 0 over the run
    diversity: float = 0.5
    # Repulsion that gives way can be strong: on the bundled avatars l1 = 2.5 costs no requested attribute.
    diversity_gain: float = 5.0
    # On avatars and two tuning prompts 1 costs every tenth requested attribute, 0.5 less than half of that.
    data_weight: float = 0.5
    condition_weight: float = 1.0
    realism: float = 0.0  # weight of the discriminator's logit
    prior: float = 0.0  # weight of the latent prior
    # Weight of the cost |z - z0| of the way from the start; with it, conditions are divided by their steepest slope
    # (Tanaka 2019). What has no start to count from, such as an edit, knows no such cost.
    transport: float = 0.0
    # Each particle follows the kernel's mean over all, and Adagrad shortens the moves (Liu & Wang 2016).
    smoothed: bool = False
    estimator: Estimator = "krr"
    bandwidth: Bandwidth | float = "nearest"
    eta: Literal["positive"] | float = "positive"  # ridge of Eq. 4
    # Repulsion does not push against the condition. That is no flow to p(x|c), see `flow.without_opposition`.
    conflict_free: bool = True
    kept_opposition: float = 0.0  # the share of its push against the condition that conflict-free repulsion keeps
    diversity_schedule: Schedule = "constant"  # "linear": from `diversity` to 0 over the run
    mollifier: float = 0.0  # s0, annealed to 0; in sqrt(bandwidth), or in pixel values in image space
    mollifier_space: MollifierSpace = "feature"
    mollifier_samples: int = 4  # noisy copies of each image, in image space
    normalise: bool = True  # each term in units of its typical gradient in the batch, see `flow.normalised`
    constrain: bool = True  # back to the latent space's support after each step
    # Temperature of the noise. Of the log-density itself: with `normalise`, of conditions alone or of the latent prior
    # alone, see `flow._moved`; repulsion adds its own entropy.
    langevin: float = 0.0
    divergence: Divergence = "kl"  # between the generated and the wanted distribution
    # Particles whose graph is in memory at once; None: all, or of more than a page shows a few. The same chunk gives
    # the same pictures, another one others like them: see `terms.Stage`.
    chunk: int | None = None
    codebook: float = 1.0  # weight of the pull to the nearest code, where latents are code vectors
    detail_steps: int = 0  # in how many of the steps, the last ones, codes settle in turn while the rest still moves
    code_order: CodeOrder = "rows"  # whose turn is first: the top row's, the centre's, or a random one's
    changes: tuple[tuple[int, float, float], ...] = ()  # (step, step_size, diversity): in force from that step on
    until: int | None = None  # the step a run was stopped at, short of `steps`; None: it was not

    def __post_init__(self) -> None:
        _check_fields(self, _FLOW_CHECKS)
        if self.detail_steps > self.steps:
            raise SettingsError(
                f"detail_steps: {self.detail_steps} steps of the second stage are more than all {self.steps} steps; "
                "raise steps, or choose fewer."
            )

    def at(self, step: int) -> Self:
        """The choices in force for the move from `step` to the next: the newest change counts."""
        reached = [change for change in self.changes if change[0] <= step]
        if not reached:
            return replace(self, changes=(), until=None)
        _, step_size, diversity = reached[-1]
        return replace(self, step_size=step_size, diversity=diversity, changes=(), until=None)

    def turn(self, step: int) -> int | None:
        """Where codes move in turn, which turn the move from `step` is; None in the first stage, before that."""
        turn = step - (self.steps - self.detail_steps)
        return turn if 0 <= turn < self.detail_steps else None

    def stage(self, step: int) -> int:
        """1, or 2 from the first state of the second stage on."""
        return 2 if self.detail_steps and step >= self.steps - self.detail_steps else 1

    def with_steps(self, steps: int) -> Self:
        """The same with other steps, of which the second stage keeps its share."""
        return replace(self, steps=steps, detail_steps=self.detail_steps_of(steps))

    def detail_steps_of(self, steps: int) -> int:
        """Of so many steps those of the second stage, by its share."""
        return steps * self.detail_steps // self.steps

    @property
    def last_step(self) -> int:
        """Where a run with these settings ends."""
        return self.steps if self.until is None else min(self.until, self.steps)

    @property
    def as_moved(self) -> Self:
        """One plain run with the values that were in force at the end."""
        return self.at(max((change[0] for change in self.changes), default=0))

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The inverse of `dataclasses.asdict`, also by way of JSON. Raises SettingsError."""
        known = _known_fields(cls, values, "flow")
        changes = known.get("changes")
        if isinstance(changes, list | tuple):
            known["changes"] = tuple(tuple(one) if isinstance(one, list) else one for one in changes)
        return cls(**known)


OPPOSING_GAIN = 0.2  # repulsion that does not give way has to be weak: of the strength of one that does

PRESETS: Mapping[str, FlowSettings] = {
    "robust": FlowSettings(),
    # Exactly Eq. 3-6: h = 1 on raw features, fixed eta, image-space mollifier, raw weights, free latents. Where latents
    # are codes, step and pull to them are the model's own (engine/families/common.py).
    "paper": FlowSettings(
        step_size=0.1,
        step_schedule="constant",
        diversity=1.0,
        diversity_gain=1.0,
        data_weight=1.0,
        bandwidth=1.0,
        eta=0.1,
        conflict_free=False,
        mollifier=0.1,
        mollifier_space="image",
        normalise=False,
        constrain=False,
    ),
    # The paper's baselines by other estimators, whose repulsion opposes the condition as Eq. 6 has it.
    "kde": FlowSettings(estimator="kde", conflict_free=False, diversity_gain=OPPOSING_GAIN * 5.0),
    # Of 8 to 512 samples in 1 to 32 dimensions Stein's estimator tells the score best with a wide kernel and a
    # small eta: docs/method.md.
    "stein": FlowSettings(
        estimator="stein", bandwidth="wide", eta=0.01, conflict_free=False, diversity_gain=OPPOSING_GAIN * 5.0
    ),
    "krr": FlowSettings(conflict_free=False, diversity_gain=OPPOSING_GAIN * 5.0),
    # The kernel of A and B convolved with a mollifier as wide as itself, annealed to none (Eq. 3).
    "kde_smoothed": FlowSettings(
        estimator="kde", mollifier=1.0, conflict_free=False, diversity_gain=OPPOSING_GAIN * 5.0
    ),
    "krr_smoothed": FlowSettings(mollifier=1.0, conflict_free=False, diversity_gain=OPPOSING_GAIN * 5.0),
}

# Others' samplers as the same update: what a discriminator and the words say, as it is, and nothing of A or B.
_BY_CONDITION = FlowSettings(
    step_schedule="constant",
    diversity=0.0,
    data_weight=0.0,
    realism=1.0,
    conflict_free=False,
    normalise=False,
)
SAMPLERS: Mapping[str, FlowSettings] = {
    # Descent on |z - z0| - C / k_eff (Tanaka 2019, Algorithm 2).
    "dot": replace(_BY_CONDITION, steps=20, step_size=0.01, transport=1.0),
    # Langevin dynamics on the prior's density times exp C (Che et al. 2020), eps = 2 * step_size.
    "ddls": replace(_BY_CONDITION, steps=100, step_size=0.005, prior=1.0, langevin=1.0),
    # The gradient flow of KL by C as the log-ratio, gamma = .01 (Ansari et al. 2021).
    "dgflow": replace(_BY_CONDITION, steps=25, step_size=0.1, langevin=0.01),
    # Particles that the kernel of their latents keeps apart, towards the same density as DDLS (Liu & Wang 2016).
    "svgd": replace(_BY_CONDITION, steps=50, step_size=0.03, prior=1.0, smoothed=True),
}
GENERATE_PRESETS: Mapping[str, FlowSettings] = {**PRESETS, **SAMPLERS}


def adapted(flow: FlowSettings, *, diversity_gain: float | None = None, **changes: Any) -> FlowSettings:
    """A preset with other numbers; diversity_gain: that of repulsion that gives way, of which others get a part."""
    if diversity_gain is not None:
        changes["diversity_gain"] = diversity_gain * (1.0 if flow.conflict_free else OPPOSING_GAIN)
    return replace(flow, **changes)


def _nearer(presets: Mapping[str, FlowSettings], **changes: Any) -> dict[str, FlowSettings]:
    """The presets with other numbers; "paper" is what it is."""
    return {name: flow if name == "paper" else adapted(flow, **changes) for name, flow in presets.items()}


# For tasks that start from a picture and stay near it: smaller steps.
NEARBY_PRESETS: Mapping[str, FlowSettings] = _nearer(PRESETS, step_size=0.08, diversity_gain=6.0)

# Edits go less far, and repel less: what the words do not speak of is to stay.
EDIT_PRESETS: Mapping[str, FlowSettings] = _nearer(NEARBY_PRESETS, steps=30, diversity_gain=1.5)

# What is known holds the particles together: the hole needs larger steps and more repulsion than an edit.
INPAINT_PRESETS: Mapping[str, FlowSettings] = _nearer(NEARBY_PRESETS, steps=40, step_size=0.12, diversity_gain=5.0)

# A translation begins where the plain model ends: short runs. Tried on a few faces of the bundled model, whose styles
# move as latents of its mapping network: pictures stay whole at this step, and differ more than at .03.
TRANSLATE_PRESETS: Mapping[str, FlowSettings] = _nearer(NEARBY_PRESETS, steps=30, step_size=0.08, diversity_gain=1.0)

_RUN_CHECKS: dict[str, Check] = {
    "prompt": _text,
    "model": _text,
    "prompt_model": _text,
    "n": _whole_number,
    "seed": _whole_number,
    "preset": _choice(*PRESETS),
}
_GENERATE_CHECKS: dict[str, Check] = _RUN_CHECKS | {
    "preset": _choice(*GENERATE_PRESETS),
    "prompt": _text_or_blank,
    "space": _optional(_text),
    "truncation_psi": _number,
    "baseline": _flag,
    "contrast_prompts": _texts,
    "cutouts": _whole_number,
    "candidates": _whole_number,
    "choose": _choice(*get_args(Selection)),
    "draws": _whole_number,
    "denoising_steps": _whole_number,
    "gradient_steps": _choice(*get_args(GradientSteps)),
    "width": _whole_number,
    "height": _whole_number,
    "start_from": _hash_or_nothing,
    "start_strength": _number,
    "reward_model": _text_or_nothing,
    "reward_weight": _number,
    "start": _optional(_numbers),
    "spread": _number,
    "classes": _texts,
    "class_count": _whole_number,
    "relaxed_classes": _flag,
    "towards": _towards,
    "unlike": _hash_or_nothing,
    "like": _hash_or_nothing,
    "pinned": _pins,
    "marks": _marks,
    "beside": _beside,
}
_EDIT_CHECKS: dict[str, Check] = _RUN_CHECKS | {
    "neutral": _text,
    "method": _choice(*EDIT_METHODS),
    "strength": _number,
    "disentanglement": _number,
    "identity": _number,
    "towards": _towards,
    "baseline": _choice(*EDIT_BASELINES),
}
_INPAINT_CHECKS: dict[str, Check] = _RUN_CHECKS | {
    "prompt": _text_or_nothing,
    "known_weight": _number,
    "grow": _whole_number,
    "feather": _whole_number,
    "invert": _flag,
    "baseline": _flag,
}
_TRANSLATE_CHECKS: dict[str, Check] = _RUN_CHECKS | {
    "prompt": _text_or_nothing,
    "domain": _text_or_nothing,
    "references": _hash_or_nothing,
    "style_scale": _number,
    "content_scale": _number,
    "identity": _number,
    "method": _choice(*TRANSLATE_METHODS),
    "baseline": _choice(*TRANSLATE_BASELINES),
}


@dataclass(frozen=True)
class RunSettings:
    """What every task lets a person choose.

    `preset` is the name of the numerical choices `flow` started from; `flow` is what counts.
    """

    task: ClassVar[str]
    checks: ClassVar[Mapping[str, Check]]
    presets: ClassVar[Mapping[str, FlowSettings]] = PRESETS

    prompt: str
    model: str = "avatars"
    prompt_model: str = "clip-mini"
    n: int = 8
    seed: int = 0  # particle i starts from seed + i
    flow: FlowSettings = field(default_factory=FlowSettings)
    preset: str = "robust"

    def __post_init__(self) -> None:
        if not isinstance(self.flow, FlowSettings):
            raise SettingsError(f"flow: expected flow settings, got {_shown(self.flow)}.")
        _check_fields(self, self.checks)

    @property
    def is_compared(self) -> bool:
        """Whether another side runs beside this one: a baseline, or another model."""
        return False

    @property
    def other(self) -> "RunSettings | None":
        """The settings of another model's run beside this one."""
        return None

    def with_preset(self, name: str) -> Self:
        """The same run with the numerical choices of the preset `name`."""
        self.checks["preset"]("preset", name)
        return replace(self, preset=name, flow=self.presets[name])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values: dict[str, Any] = asdict(self)
        values |= {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
        values["flow"]["changes"] = [list(change) for change in self.flow.changes]
        return {"task": self.task} | values

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The inverse of `to_dict`; missing fields take their defaults.

        Raises SettingsError, naming the field, for anything unknown, of the wrong kind or out of range.
        """
        if isinstance(values, Mapping) and values.get("task", cls.task) != cls.task:
            raise SettingsError(f"task: expected {cls.task}, got {_shown(values['task'])}.")
        known = _known_fields(cls, values, "settings", besides=("task",))
        known.pop("task", None)
        missing = [entry.name for entry in fields(cls) if _is_required(entry) and entry.name not in known]
        if missing:
            raise SettingsError(f"settings: the field {missing[0]} is missing.")
        if "flow" in known:
            known["flow"] = FlowSettings.from_dict(known["flow"])
        for name, value in known.items():
            if isinstance(value, list):
                known[name] = tuple(value)
        return cls(**known)


@dataclass(frozen=True)
class GenerateSettings(RunSettings):
    """Everything that determines a run of the Generate task, except the weights of the models.

    `prompt` may be empty: pictures are then to look real, see `engine.tasks.generation`; words that serve to judge by
    them (`contrast_prompts`, `cutouts`, `candidates`) count nothing.
    """

    task: ClassVar[str] = "generate"
    checks: ClassVar[Mapping[str, Check]] = _GENERATE_CHECKS
    presets: ClassVar[Mapping[str, FlowSettings]] = GENERATE_PRESETS

    space: str | None = None  # None: the model's default
    truncation_psi: float = 1.0
    baseline: bool = True
    contrast_prompts: tuple[str, ...] = ()
    cutouts: int = 0  # augmented views of every picture that the text term judges; 0: the picture itself
    candidates: int = 1  # starts that each particle tries, where latents are codes; it begins with the best fitting one
    # How a discriminator chooses where the particles begin, and of how many starts for each; empty: it does not.
    choose: Selection = ""
    draws: int = 8
    start: tuple[float, ...] | None = None  # a kept latent, flattened: "more like this"
    spread: float = 0.3  # how far from `start` the new particles begin; 0: at it, 1: anywhere
    # Names, for generators that have classes; empty: found from the prompt, all without one.
    classes: tuple[str, ...] = ()
    class_count: int = 3  # how many the prompt may find
    relaxed_classes: bool = False  # True: their weights move with z; False: each particle keeps its class
    # Of diffusion models. 0 steps: as many as the model is made for; "last": gradients go through the network of the
    # last step alone, past those before it. width, height: pixels; 0: as large as the model draws.
    denoising_steps: int = 0
    gradient_steps: GradientSteps = "all"
    width: int = 0
    height: int = 0
    # Of diffusion models: the sha256 of a picture, to whose encoding the noise is added, and the share of the
    # time at which the steps then begin: at 1 nearly nothing of the picture is left.
    start_from: str = ""
    start_strength: float = 0.75
    # A second prompt model that judges by the words as well, such as one that was fitted to what people prefer; empty:
    # none. Its weight is relative to that of the words; it counts its own logits.
    reward_model: str = ""
    reward_weight: float = 1.0
    # Real examples that attract: none, OF_THE_MODEL, or the content hash of a person's own pictures. Without a prompt
    # the model's are meant where none is named, as far as it has some.
    towards: str = ""
    unlike: str = ""  # the content hash of pictures that repel the particles as these repel each other; empty: none
    like: str = ""  # the content hash of pictures that a person liked; they attract with the flow's `data_weight` too
    pinned: tuple[Pin, ...] = ()  # particles that stay as they are, and repel the others
    marks: tuple[Mark, ...] = ()  # what a person marked while the run went on: each counts from its step on
    beside: "GenerateSettings | None" = None  # another model's run of the prompt, shown in place of the baseline

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prompt.strip():
            object.__setattr__(self, "prompt", "")  # blanks ask for nothing
        places = [*(pin.place for pin in self.pinned), *(mark.picture for mark in self.marks)]
        if places and max(places) >= self.n:
            raise SettingsError(
                f"n: picture {max(places) + 1} is marked, and there would be {self.n}. Choose at least "
                f"{max(places) + 1}, or let the marked pictures go."
            )

    @property
    def is_compared(self) -> bool:
        return self.baseline or self.beside is not None

    @property
    def other(self) -> "GenerateSettings | None":
        return self.beside

    @property
    def seeds_drawn(self) -> int:
        """How many seeds from `seed` on a run looks at before it begins; DRS looks at more where few fit."""
        return self.n * (self.draws if self.choose else 1)

    def to_dict(self) -> dict[str, Any]:
        plain_marks = {
            "pinned": [list(pin) for pin in self.pinned],
            "marks": [list(mark) for mark in self.marks],
        }
        return super().to_dict() | plain_marks | {"beside": self.beside and self.beside.to_dict()}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        if isinstance(values, Mapping):
            rows = {name: _rows(values[name], kind) for name, kind in _ROWS.items() if name in values}
            values = {**values, **rows}
        beside = values.get("beside") if isinstance(values, Mapping) else None
        if not isinstance(beside, Mapping):
            return super().from_dict(values)
        if beside.get("beside") is not None:  # before anything recurses any deeper
            raise SettingsError("beside: expected the settings of one other run, got a run beside another.")
        return super().from_dict({**values, "beside": cls.from_dict(beside)})


@dataclass(frozen=True)
class CrowdSettings(GenerateSettings):
    """Those of a run of more pictures than a page shows or remakes: up to MOST_AT_ALL."""

    checks: ClassVar[Mapping[str, Check]] = _GENERATE_CHECKS | {"n": _many}

    @classmethod
    def of(cls, settings: GenerateSettings, n: int) -> Self:
        """The same run with so many pictures."""
        return cls(**{**vars(settings), "n": n})


@dataclass(frozen=True)
class EditSettings(RunSettings):
    """Everything that determines a run of the Edit task, except the picture and the weights of the models.

    `prompt` says what the picture should be, `neutral` what it is. `strength`: how far the edit goes, 1 as far
    as the method's own default, negative the other way. `disentanglement`: StyleCLIP's beta, style channels less
    relevant than that stay. `identity`: the pull back to the start. `towards`: as of Generate; StyleCLIP's methods know
    no such pull. `baseline`: what runs beside, from the same start.
    """

    task: ClassVar[str] = "edit"
    checks: ClassVar[Mapping[str, Check]] = _EDIT_CHECKS
    presets: ClassVar[Mapping[str, FlowSettings]] = EDIT_PRESETS

    flow: FlowSettings = EDIT_PRESETS["robust"]
    neutral: str = "a person"
    method: EditMethod = "gmi"
    strength: float = 1.0
    disentanglement: float = 0.15
    identity: float = 1.0
    towards: str = ""
    baseline: EditBaseline = "direction"

    @property
    def is_compared(self) -> bool:
        return self.baseline != "none"


@dataclass(frozen=True)
class InpaintSettings(RunSettings):
    """Everything that determines a run of the Inpaint task, except picture, mask and the weights of the models.

    `prompt` may be empty: the surroundings alone then say what fits. The mask is inverted, then grown by `grow`
    pixels of the picture (negative: shrunk); over `feather` pixels inside its edge the new picture fades in.
    """

    task: ClassVar[str] = "inpaint"
    checks: ClassVar[Mapping[str, Check]] = _INPAINT_CHECKS
    presets: ClassVar[Mapping[str, FlowSettings]] = INPAINT_PRESETS

    prompt: str = ""
    flow: FlowSettings = INPAINT_PRESETS["robust"]
    known_weight: float = 1.0  # of the known pixels' likelihood, relative to the prompt's
    grow: int = 0
    feather: int = 4
    invert: bool = False  # True: what the mask covers is kept
    baseline: bool = True

    @property
    def is_compared(self) -> bool:
        return self.baseline


@dataclass(frozen=True)
class TranslateSettings(RunSettings):
    """Everything that determines a run of the Translate task, except the pictures and the weights of the models.

    `domain` is what the picture becomes, one of the model's; empty: its first. `references`: the content hash of
    pictures whose styles particles begin at in turn; empty: styles are drawn, one for each particle. `style_scale`,
    `content_scale`: how far the flow moves either; equal ones change pictures alike, with a `content_scale` of 0 the
    style moves alone. `identity`: the
    pull back to the plain model's result. `prompt`, which may be empty, says what else should be seen. `method`:
    "plain" is the model alone, which moves nothing. `baseline`: what runs beside, from the same start.
    """

    task: ClassVar[str] = "translate"
    checks: ClassVar[Mapping[str, Check]] = _TRANSLATE_CHECKS
    presets: ClassVar[Mapping[str, FlowSettings]] = TRANSLATE_PRESETS

    prompt: str = ""
    model: str = "hairstyles"
    flow: FlowSettings = TRANSLATE_PRESETS["robust"]
    domain: str = ""
    references: str = ""
    style_scale: float = 1.0
    content_scale: float = 0.1
    identity: float = 1.0
    method: TranslateMethod = "flow"
    baseline: TranslateBaseline = "plain"

    @property
    def is_compared(self) -> bool:
        return self.baseline != "none"


_TASKS: Mapping[str, type[RunSettings]] = {
    cls.task: cls for cls in (GenerateSettings, EditSettings, InpaintSettings, TranslateSettings)
}


def settings_from_dict(values: Any) -> RunSettings:
    """The settings of whichever task `values` are of; those of Generate where they do not say. Raises SettingsError."""
    task = values.get("task", GenerateSettings.task) if isinstance(values, Mapping) else GenerateSettings.task
    _choice(*_TASKS)("task", task)
    return _TASKS[task].from_dict(values)


_ROWS: Mapping[str, type[Pin] | type[Mark]] = {"pinned": Pin, "marks": Mark}


def _rows(value: Any, kind: type[Pin] | type[Mark]) -> Any:
    """Lists of numbers and names as JSON has them -> pins or marks; anything else as it is, for the checks."""
    if not isinstance(value, list | tuple):
        return value
    count = len(kind._fields)
    is_whole = all(isinstance(row, list | tuple) and len(row) == count for row in value)
    return tuple(kind(*row) for row in value) if is_whole else tuple(value)


def _is_required(entry: Field[Any]) -> bool:
    return entry.default is MISSING and entry.default_factory is MISSING


def _known_fields(cls: type, values: Any, where: str, *, besides: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where}: expected an object with named fields, got {_shown(values)}.")
    names = [*besides, *(entry.name for entry in fields(cls))]
    for name in values:
        if name not in names:
            raise SettingsError(f"{where}: {_shown(name)} is not a setting; known are {', '.join(names)}.")
    return dict(values)

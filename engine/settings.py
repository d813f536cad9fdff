"""What a person may choose: frozen, validated, and convertible to and from JSON.

`FlowSettings` are the numerical choices of the particle flow, `GenerateSettings` everything that determines
one run of the Generate task. The presets are rows of one table: "paper" and "robust" are settings of one code
path.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Self, get_args

Estimator = Literal["krr", "kde", "stein"]
Bandwidth = Literal["nearest", "median"]
Schedule = Literal["constant", "linear"]
MollifierSpace = Literal["feature", "image"]
Divergence = Literal["kl", "reverse_kl", "js", "hellinger"]

# Closed ranges of every number a person can set; the page's sliders and the validation read the same table.
LIMITS: Mapping[str, tuple[float, float]] = {
    "n": (1, 64),
    "seed": (0, 2**32 - 1),
    "truncation_psi": (0.05, 1.0),
    "spread": (0.0, 1.0),
    "cutouts": (0, 64),
    "steps": (1, 1000),
    "step_size": (1e-6, 1.0),
    "diversity": (0.0, 2.0),
    "diversity_gain": (0.0, 100.0),
    "data_weight": (0.0, 100.0),
    "condition_weight": (0.0, 1000.0),
    "realism": (0.0, 100.0),
    "prior": (0.0, 100.0),
    "bandwidth": (1e-6, 1e6),
    "eta": (1e-6, 1e6),
    "mollifier": (0.0, 10.0),
    "mollifier_samples": (1, 64),
    "langevin": (0.0, 10.0),
    "chunk": (1, 1024),
}
PROMPT_LIMIT = (
    5_000  # characters; what exceeds the text encoder's context is cut, and said, by the prompt model
)
CONTRAST_LIMIT = 32  # contrast prompts
START_LIMIT = 1_000_000  # numbers in a kept latent; the largest public W+ has 9,216

Check = Callable[[str, Any], None]


class SettingsError(ValueError):
    """A setting that cannot be used; the message names the setting, what it got, and what is possible."""


def _number(name: str, value: Any) -> None:
    low, high = LIMITS[name]
    # The comparison, unlike math.isfinite, also survives whole numbers too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -math.inf < value < math.inf:
        raise SettingsError(f"{name}: expected a number from {low:g} to {high:g}, got {_shown(value)}.")
    if not low <= value <= high:
        raise SettingsError(f"{name}: {_shown(value)} is outside {low:g} to {high:g}.")


def _whole_number(name: str, value: Any) -> None:
    if not isinstance(value, int):
        low, high = LIMITS[name]
        raise SettingsError(
            f"{name}: expected a whole number from {low:.10g} to {high:.10g}, got {_shown(value)}."
        )
    _number(name, value)


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise SettingsError(f"{name}: expected true or false, got {_shown(value)}.")


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise SettingsError(f"{name}: expected text, got {_shown(value)}.")
    if not value.strip():
        raise SettingsError(f"{name}: is empty; write a few words.")
    if len(value) > PROMPT_LIMIT:
        raise SettingsError(
            f"{name}: has {len(value):,} characters; shorten it to {PROMPT_LIMIT:,} or fewer."
        )
    if any("\ud800" <= character <= "\udfff" for character in value):  # could not be written to any file
        raise SettingsError(f"{name}: has half a character in it (a lone surrogate); type it anew.")


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
    "estimator": _choice(*get_args(Estimator)),
    "bandwidth": _choice_or_number(*get_args(Bandwidth)),
    "eta": _choice_or_number("positive"),
    "conflict_free": _flag,
    "diversity_schedule": _choice(*get_args(Schedule)),
    "mollifier": _number,
    "mollifier_space": _choice(*get_args(MollifierSpace)),
    "mollifier_samples": _whole_number,
    "normalise": _flag,
    "constrain": _flag,
    "langevin": _number,
    "divergence": _choice(*get_args(Divergence)),
    "chunk": _optional(_whole_number),
}


@dataclass(frozen=True)
class FlowSettings:
    """Numerical choices of Algorithm 1; the defaults are the preset "robust".

    The weights l1, l2, l3 of Eq. 6 are `diversity` times `diversity_gain`, `data_weight` and `condition_weight`.
    """

    steps: int = 60
    step_size: float = 0.08  # relative to the latent space's scale when `normalise`, absolute otherwise
    step_schedule: Schedule = "linear"  # "linear": from `step_size` to 0 over the run
    diversity: float = 0.5
    # Repulsion that gives way can be strong: on the bundled avatars l1 = 3 costs no requested attribute.
    diversity_gain: float = 6.0
    data_weight: float = 1.0
    condition_weight: float = 1.0
    realism: float = 0.0  # weight of the discriminator's logit
    prior: float = 0.0  # weight of the latent prior
    estimator: Estimator = "krr"
    bandwidth: Bandwidth | float = "nearest"
    eta: Literal["positive"] | float = "positive"  # ridge of Eq. 4
    conflict_free: bool = True  # repulsion never pushes against the condition
    diversity_schedule: Schedule = "constant"  # "linear": from `diversity` to 0 over the run
    mollifier: float = 0.0  # s0, annealed to 0; in sqrt(bandwidth), or in pixel values in image space
    mollifier_space: MollifierSpace = "feature"
    mollifier_samples: int = 4  # noisy copies of each image, in image space
    normalise: bool = True  # every term divided by the batch median of its gradient norms
    constrain: bool = True  # back to the latent space's support after each step
    langevin: float = 0.0  # temperature of the noise
    divergence: Divergence = "kl"  # between the generated and the wanted distribution
    chunk: int | None = None  # particles whose graph is in memory at once; None: all

    def __post_init__(self) -> None:
        _check_fields(self, _FLOW_CHECKS)


PRESETS: Mapping[str, FlowSettings] = {
    "robust": FlowSettings(),
    # Exactly Eq. 3-6: h = 1 on raw features, fixed eta, image-space mollifier, raw weights, free latents.
    "paper": FlowSettings(
        step_size=0.1,
        step_schedule="constant",
        diversity=1.0,
        diversity_gain=1.0,
        bandwidth=1.0,
        eta=0.1,
        conflict_free=False,
        mollifier=0.1,
        mollifier_space="image",
        normalise=False,
        constrain=False,
    ),
    "kde": FlowSettings(estimator="kde"),
    # Li & Turner's estimator needs a wide kernel or a large eta: on 40 samples of a Gaussian, the error
    # relative to the score is 1.50 at (h, eta) = (1, 0.1), .64 at (1, 1), .37 at (32, 0.1).
    "stein": FlowSettings(estimator="stein", bandwidth="median", eta=1.0),
}

_GENERATE_CHECKS: Mapping[str, Check] = {
    "prompt": _text,
    "model": _text,
    "prompt_model": _text,
    "n": _whole_number,
    "seed": _whole_number,
    "space": _optional(_text),
    "truncation_psi": _number,
    "preset": _choice(*PRESETS),
    "baseline": _flag,
    "contrast_prompts": _texts,
    "cutouts": _whole_number,
    "start": _optional(_numbers),
    "spread": _number,
}


@dataclass(frozen=True)
class GenerateSettings:
    """Everything that determines a run of the Generate task, except the weights of the models.

    `preset` is the name of the numerical choices `flow` started from; `flow` is what counts.
    """

    prompt: str
    model: str = "avatars"
    prompt_model: str = "clip-mini"
    n: int = 8
    seed: int = 0  # particle i starts from seed + i
    space: str | None = None  # None: the model's default
    truncation_psi: float = 1.0
    flow: FlowSettings = field(default_factory=FlowSettings)
    preset: str = "robust"
    baseline: bool = True
    contrast_prompts: tuple[str, ...] = ()
    cutouts: int = 0  # augmented views of every picture that the text term judges; 0: the picture itself
    start: tuple[float, ...] | None = None  # a kept latent, flattened: "more like this"
    spread: float = 0.3  # how far from `start` the new particles begin; 0: at it, 1: anywhere

    def __post_init__(self) -> None:
        if not isinstance(self.flow, FlowSettings):
            raise SettingsError(f"flow: expected flow settings, got {_shown(self.flow)}.")
        _check_fields(self, _GENERATE_CHECKS)

    def with_preset(self, name: str) -> Self:
        """The same run with the numerical choices of the preset `name`."""
        _GENERATE_CHECKS["preset"]("preset", name)
        return replace(self, preset=name, flow=PRESETS[name])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = asdict(self)
        values["contrast_prompts"] = list(self.contrast_prompts)
        values["start"] = None if self.start is None else list(self.start)
        return values

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The inverse of `to_dict`; missing fields take their defaults.

        Raises SettingsError, naming the field, for anything unknown, of the wrong kind or out of range.
        """
        known = _known_fields(cls, values, "settings")
        if "prompt" not in known:
            raise SettingsError("settings: the field prompt is missing.")
        if "flow" in known:
            known["flow"] = FlowSettings(**_known_fields(FlowSettings, known["flow"], "flow"))
        for name in ("contrast_prompts", "start"):
            if isinstance(known.get(name), list):
                known[name] = tuple(known[name])
        return cls(**known)


def _known_fields(cls: type, values: Any, where: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where}: expected an object with named fields, got {_shown(values)}.")
    names = [entry.name for entry in fields(cls)]
    for name in values:
        if name not in names:
            raise SettingsError(f"{where}: {_shown(name)} is not a setting; known are {', '.join(names)}.")
    return dict(values)

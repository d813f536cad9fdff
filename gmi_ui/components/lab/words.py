"""The controls of the lab: label, range and explanation of each, two sentences at most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.lab.settings import ACTS_ON, CHOOSING, LIMITS, OURS, SAMPLERS


@dataclass(frozen=True)
class Slider:
    """is_log: even in the logarithm. step: between two values, where it is even in the value itself."""

    key: str
    label: str
    info: str
    step: float = 0.05
    is_log: bool = False
    restarts: bool = False  # a change begins the run anew


TARGETS: Mapping[str, str] = {
    "swiss roll": "Swiss roll",
    "25 Gaussians": "25 Gaussians",
    "two moons": "Two moons",
    "drawing": "My own drawing",
}
TARGET_INFO = (
    "The density that the particles are to reach, high where the plane is lit. "
    "With your own drawing you paint one with the mouse."
)
GENERATORS: Mapping[str, str] = {"none": "None: points of the plane", "trained": "A small trained GAN"}
GENERATOR_INFO = (
    "Without one the particles are points, and the density ratio is known. "
    "The GAN misses some of the target: samplers move its latents, or choose among them."
)

SLIDERS: Sequence[Slider] = (
    Slider(
        "n", "Particles", "How many move together. More tell the densities better, and take longer.",
        is_log=True, restarts=True,
    ),
    Slider(
        "seed", "Seed", "Both sides begin alike and draw the same noise. The same seed gives the same run again.",
        restarts=True,
    ),
    Slider(
        "steps", "Steps", "How many steps a run has. The mollifier falls to 0 over them.",
        step=10, restarts=True,
    ),
    Slider(
        "step", "Step size",
        "In units of what is usual for each sampler. Where it is too large particles overshoot and run away.",
        is_log=True,
    ),
    Slider(
        "repulsion", "Repulsion A",
        "Weight of A, which drives particles from where they are dense. At 0 they all fall onto the nearest peaks.",
    ),
    Slider(
        "attraction", "Attraction B",
        "Weight of B, up the density of real points. At 0 nothing but C draws the particles.",
    ),
    Slider(
        "condition", "Condition C",
        "Weight of C, up the discriminator's log of p / q. It leads to the target as B does, by another source.",
    ),
    Slider(
        "eta", "Ridge eta",
        "Of the regression that estimates the densities. A small one flattens them where points are dense; with a "
        "large one KRR is KDE.",
        is_log=True,
    ),
    Slider(
        "bandwidth", "Bandwidth h", "How far the kernel exp(-d\u00b2 / h) reaches. A wide one blurs what is fine.",
        is_log=True,
    ),
    Slider(
        "mollifier", "Mollifier",
        "Widens the kernel at first and falls to 0 over the run. Particles see far before they see sharply.",
    ),
    Slider("noise", "Noise", "Temperature of random kicks in every step. DDLS has its own.", step=0.01),
)  # fmt: skip

SAMPLER_INFO: Mapping[str, str] = {
    "KRR": "Wasserstein gradient flow, both densities by kernel ridge regression. Particles repel each other by A and "
    "follow the target by B.",
    "KRR smoothed": "The same flow with a mollified kernel. It sees far at first and sharpens over the run.",
    "KDE": "The same flow with plain kernel density estimates. There is no ridge.",
    "Stein": "Stein's estimator of the particles' score in place of A's. B is a kernel density estimate with a "
    "bandwidth of its own.",
    "DOT": "Up the critic, held back to where each latent began. Where the critic is steep somewhere it moves little.",
    "DDLS": "Langevin dynamics on the prior times the ratio. It never rests: it is right on the average over time.",
    "DGflow": "Up the density ratio, each particle for itself. Nothing keeps them apart, so they gather at peaks.",
    "SVGD": "A kernel spreads each particle's pull C to its neighbours, and pushes them apart by A.",
    "SIR": "Resampling: each particle is one of all proposals so far, drawn by its ratio. It chooses, and moves none.",
    "DRS": "Rejection: a particle takes the first proposal that is kept, by its ratio. What was kept stays.",
    "MH": "A Markov chain for each particle, with one proposal a step. It accepts by the quotient of two ratios.",
    "plain": "The points where all samplers begin. It is what they are to improve.",
}


def label_of(sampler: str) -> str:
    """What a menu calls it."""
    if sampler in OURS:
        return f"Ours, {sampler}"
    return "The generator alone" if sampler == "plain" else sampler


def labelled(message: str) -> str:
    """A message about a setting, under the name that the page gives it."""
    for slider in SLIDERS:
        name = f"{slider.key.capitalize()} is "
        if message.startswith(name):
            return f"{slider.label}: {message.removeprefix(name)}"
    return message


def words() -> dict[str, object]:
    """All that the page shows of them, for its script."""
    return {
        "targets": TARGETS,
        "target_info": TARGET_INFO,
        "generators": GENERATORS,
        "generator_info": GENERATOR_INFO,
        "choosing": CHOOSING,
        "samplers": {name: [label_of(name), SAMPLER_INFO[name]] for name in SAMPLERS},
        "sliders": [
            {
                "key": slider.key,
                "label": slider.label,
                "info": slider.info,
                "low": LIMITS[slider.key][0],
                "high": LIMITS[slider.key][1],
                "step": slider.step,
                "log": slider.is_log,
                "restarts": slider.restarts,
                "acts_on": list(ACTS_ON.get(slider.key, SAMPLERS)),
            }
            for slider in SLIDERS
        ],
    }

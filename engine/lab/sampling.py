"""Each sampler as a stream of states of N particles, and the vectors that move them, for whoever watches.

What is computed depends on the scene, the settings and the state alone: from any state a stream goes on as it would
have, with other settings if a person has changed them. Samplers that choose among a generator's points do so in steps,
too: every step draws as many new proposals as there are particles.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from engine.inference.density import smoothed_score
from engine.inference.flow import Particles, Problem, contributions, refine
from engine.inference.terms import Realism, References
from engine.lab.networks import Z_DIM, Function, Networks
from engine.lab.settings import LabSettings
from engine.lab.targets import Target
from engine.latents.spaces import SphereSpace, seeded
from engine.samplers import rejection, stein, transport
from engine.settings import MOST_AT_ALL, Estimator, FlowSettings

# Eq. 6 as it is written, in the plane: no term is normalised, none gives way.
RAW_FLOW = FlowSettings(
    step_schedule="constant", diversity=1.0, diversity_gain=1.0, data_weight=1.0, conflict_free=False,
    normalise=False, constrain=False, chunk=MOST_AT_ALL,
)  # fmt: skip
# Of a sampler's usual step. A flow's is a share of the bandwidth h: 2 / h is the steepest that log k can be curved, so
# it goes a tenth of the way to the nearest example whatever h is.
STEPS: Mapping[str, float] = {"DOT": 0.005, "DDLS": 0.005, "DGflow": 0.005, "SVGD": 0.02}
FLOW_STEP = 0.05
PERCENTILE = 0.8  # of discriminator rejection sampling
ESTIMATORS: Mapping[str, Estimator] = {"KRR": "krr", "KRR smoothed": "krr", "KDE": "kde", "Stein": "stein"}
VECTORS = ("A", "B", "C")


@dataclass(frozen=True, eq=False)
class Scene:
    """What a run works on. latents: [N, 2], where it begins; real: [N, 2], the target's; references: more of those."""

    target: Target
    networks: Networks
    latents: Tensor
    real: Tensor
    references: References


class State(NamedTuple):
    """latents: [N, 2]; memory: [N, K], what a sampler remembers of each particle, None where it has not begun."""

    latents: Tensor
    step: int = 0
    memory: Tensor | None = None


Stream = Callable[[Scene, LabSettings, State], Iterator[State]]
Advance = Callable[[Scene, LabSettings, State], State]


def flow_problem(networks: Networks, references: References, *, condition: bool = True) -> Problem:
    """The flow towards the density of examples; the discriminator's logit is its condition."""
    return Problem(
        render=networks.generator,
        space=SphereSpace(Z_DIM),
        extractor=torch.Tensor.contiguous,
        text=None,
        conditions=((Realism(networks.ratio), 1.0),) if condition else (),
        data=references,
    )


def flow_settings(settings: LabSettings, references: References) -> FlowSettings:
    """The engine's settings of one of our samplers.

    Stein's estimator is none of a density: B then has a bandwidth of its own, which the step has to fit.
    """
    h = settings.bandwidth
    if settings.sampler == "Stein":
        h = min(h, float(references.fit("stein", "nearest", settings.eta).h))
    return replace(
        RAW_FLOW,
        steps=settings.steps,
        step_size=min(1.0, settings.step * FLOW_STEP * h),
        diversity=settings.repulsion,
        data_weight=settings.attraction,
        condition_weight=settings.condition,
        estimator=ESTIMATORS[settings.sampler],
        bandwidth=settings.bandwidth,
        eta=settings.eta,
        mollifier=settings.mollifier if settings.sampler == "KRR smoothed" else 0.0,
        langevin=settings.noise,
    )


def particles_of(settings: LabSettings, state: State) -> Particles:
    """Each with a seed of its own for its noise."""
    first = settings.seed * 10_000
    return Particles(state.latents, tuple(range(first, first + len(state.latents))), state.step)


def _flow(scene: Scene, settings: LabSettings, state: State) -> Iterator[State]:
    problem = flow_problem(scene.networks, scene.references)
    for step in refine(problem, particles_of(settings, state), flow_settings(settings, scene.references)):
        yield State(step.particles.latents, step.step)


def _stepwise(advance: Advance) -> Stream:
    """A stream that takes one step after the other, for as long as it is asked."""

    def stream(scene: Scene, settings: LabSettings, state: State) -> Iterator[State]:
        yield state
        while state.step < settings.steps:
            moved = advance(scene, settings, state)
            state = State(moved.latents.detach(), state.step + 1, moved.memory)
            yield state

    return stream


def _draws(settings: LabSettings, state: State) -> torch.Generator:
    """The same for all samplers: those that propose or kick do so alike."""
    return seeded("lab", settings.seed, state.step)


def _step_size(settings: LabSettings) -> float:
    return settings.step * STEPS[settings.sampler]


def _last(states: Iterator[Tensor]) -> Tensor:
    *_, state = states
    return state


def _plain(scene: Scene, settings: LabSettings, state: State) -> State:
    return state


def _dot(scene: Scene, settings: LabSettings, state: State) -> State:
    """Its memory is where the particles began."""
    g, d = scene.networks.generator, scene.networks.critic
    start = state.latents if state.memory is None else state.memory
    k_eff = transport.lipschitz(g, d, start)
    moves = transport.dot(g, d, state.latents, steps=1, rate=_step_size(settings), k_eff=k_eff, start=start)
    return State(_last(moves), memory=start)


def _ddls(scene: Scene, settings: LabSettings, state: State) -> State:
    g, d, draws = scene.networks.generator, scene.networks.ratio, _draws(settings, state)
    return State(_last(transport.ddls(g, d, state.latents, steps=1, step_size=_step_size(settings), generator=draws)))


def _dgflow(scene: Scene, settings: LabSettings, state: State) -> State:
    moves = transport.dgflow(
        scene.networks.generator, scene.networks.ratio, state.latents, steps=1, step_size=_step_size(settings),
        noise=settings.noise, generator=_draws(settings, state),
    )  # fmt: skip
    return State(_last(moves))


def _svgd(scene: Scene, settings: LabSettings, state: State) -> State:
    """Its memory are Adagrad's mean squares."""
    density = latent_density(scene.networks)
    latents, squares = stein.svgd_step(density, state.latents, state.memory, step_size=_step_size(settings))
    return State(latents, memory=squares)


def latent_density(networks: Networks) -> Function:
    """z [N, 2] -> the log of the prior times the discriminator's ratio, up to a constant: [N]."""
    return lambda z: networks.ratio(networks.generator(z)) - z.square().sum(1) / 2


def _proposals(scene: Scene, settings: LabSettings, state: State) -> tuple[Tensor, Tensor, torch.Generator]:
    """As many new latents as there are particles, the logits of their points, and the generator to go on with."""
    draws = _draws(settings, state)
    latents = torch.randn(state.latents.shape, generator=draws)
    return latents, scene.networks.ratio(scene.networks.generator(latents)), draws


def _sir(scene: Scene, settings: LabSettings, state: State) -> State:
    """Of all proposals so far each particle is one, drawn by its weight. The memory is the log of their sum."""
    latents, logits, draws = _proposals(scene, settings, state)
    memory = state.memory
    if memory is None:  # the latents that the run begins with are proposals, too
        first = scene.networks.ratio(scene.networks.generator(state.latents))
        memory = first.logsumexp(0).expand(len(first))[:, None]
        state = State(state.latents[rejection.sir(first, len(first), generator=draws)])
    total = torch.logaddexp(memory[0, 0], logits.logsumexp(0))
    chosen = latents[rejection.sir(logits, len(latents), generator=draws)]
    is_new = torch.rand(len(latents), generator=draws) < (logits.logsumexp(0) - total).exp()
    return State(torch.where(is_new[:, None], chosen, state.latents), memory=total.expand(len(latents))[:, None])


def _drs(scene: Scene, settings: LabSettings, state: State) -> State:
    """Proposals that are kept take the places of particles that none was kept for yet: those whose memory is 0.

    The memory's second column is the highest logit so far.
    """
    latents, logits, draws = _proposals(scene, settings, state)
    memory = state.memory if state.memory is not None else torch.tensor([[0.0, -torch.inf]]).repeat(len(latents), 1)
    highest = torch.maximum(memory[0, 1], logits.max())
    kept = rejection.drs(logits, float(highest), generator=draws, percentile=PERCENTILE)
    places = (memory[:, 0] == 0).nonzero()[: len(kept), 0]
    moved, settled = state.latents.clone(), memory[:, 0].clone()
    moved[places], settled[places] = latents[kept[: len(places)]], 1.0
    return State(moved, memory=torch.stack([settled, highest.expand(len(latents))], dim=1))


def _mh(scene: Scene, settings: LabSettings, state: State) -> State:
    """A proposal of every chain a step. The memory is the logit of where each is, at first that of a real point."""
    latents, logits, draws = _proposals(scene, settings, state)
    current = scene.networks.ratio(scene.real) if state.memory is None else state.memory[:, 0]
    accepted = rejection.metropolis_hastings(current, logits[:, None], generator=draws) >= 0
    moved = torch.where(accepted[:, None], latents, state.latents)
    return State(moved, memory=torch.where(accepted, logits, current)[:, None])


STREAMS: Mapping[str, Stream] = {
    **dict.fromkeys(ESTIMATORS, _flow),
    "DOT": _stepwise(_dot),
    "DDLS": _stepwise(_ddls),
    "DGflow": _stepwise(_dgflow),
    "SVGD": _stepwise(_svgd),
    "SIR": _stepwise(_sir),
    "DRS": _stepwise(_drs),
    "MH": _stepwise(_mh),
    "plain": _stepwise(_plain),
}
# Columns of each sampler's memory; 0 without one.
REMEMBERED: Mapping[str, int] = {"DOT": 2, "SVGD": 2, "SIR": 1, "DRS": 2, "MH": 1}


# ---- the vectors -----------------------------------------------------------------------------------------


def vectors(scene: Scene, settings: LabSettings, state: State) -> dict[str, Tensor]:
    """How A, B and C move the points g(z), each [N, 2], in units of the plane and before the step size.

    Of our samplers -l1 grad A, l2 grad B and l3 grad C, as far as the generator lets a point follow: through its
    Jacobian J they become J J^T v, and without a generator stay as they are. Of others what the discriminator adds is
    C, and SVGD's repulsion A. Samplers that only choose have none.
    """
    g = scene.networks.generator
    if settings.sampler in ESTIMATORS:
        problem = flow_problem(scene.networks, scene.references)
        found = contributions(problem, particles_of(settings, state), flow_settings(settings, scene.references))
        return {role: _push(g, state.latents, _pull(g, state.latents, v)) for role, v in found.items()}
    if settings.sampler == "SVGD":
        score = stein.score_of(latent_density(scene.networks), state.latents)
        apart = smoothed_score(state.latents, torch.zeros_like(score))
        moves = {"A": apart, "C": smoothed_score(state.latents, score) - apart}
        return {role: _push(g, state.latents, v) for role, v in moves.items()}
    if settings.sampler in STEPS:
        points = g(state.latents).detach()
        d = scene.networks.critic if settings.sampler == "DOT" else scene.networks.ratio
        up = stein.score_of(d, points)
        if settings.sampler == "DOT":
            up = up / transport.lipschitz(g, d, scene.latents)
        return {"C": _push(g, state.latents, _pull(g, state.latents, up))}
    return {}


def _pull(g: Function, z: Tensor, v: Tensor) -> Tensor:
    """J^T v, [N, 2], for a vector at each point g(z)."""
    moving = z.detach().requires_grad_()
    with torch.enable_grad():
        (pulled,) = torch.autograd.grad(g(moving), moving, v)
    return pulled


def _push(g: Function, z: Tensor, v: Tensor) -> Tensor:
    """J v, [N, 2], for a vector at each latent: the derivative of J^T u by u, which is J, times v."""
    moving = z.detach().requires_grad_()
    with torch.enable_grad():
        points = g(moving)
        u = torch.zeros_like(points, requires_grad=True)
        (pulled,) = torch.autograd.grad(points, moving, u, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, u, v)
    return pushed

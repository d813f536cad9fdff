"""StyleGAN2 against the golden tensors of the reference networks, and against its own mathematics.

Tolerances. float64 to 1e-10: the same sums in another order differ by about 1e-15 of the largest entry, and
nothing in these networks amplifies that by more than a few orders of magnitude. float32 to 1e-4, likewise
from about 1e-7.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.networks import stylegan2
from engine.networks.stylegan2 import (
    Convolution,
    Discriminator,
    Generator,
    SynthesisLayer,
    ada_state_from_rosinality,
    blur,
    convolve_up,
    discriminator_from_shapes,
    downsample,
    draw_weights,
    generator_from_shapes,
    upsample,
)
from tests.engine.networks.checks import assert_cotangents_pull_back_together, normal
from tests.goldens import Golden, assert_near, golden, manifest

GENERATORS = ("skip32", "orig16", "resnet16", "cond_clamp16", "gray8")
MANIFESTS = ("ffhq1024", "afhq512", "paper256", "lsun256_configf", "cifar10_cond")
PRECISIONS = [
    pytest.param(torch.float64, "out64", 1e-10, id="float64"),
    pytest.param(torch.float32, "out", 1e-4, id="float32"),
]


def load_generator(about: Golden, dtype: torch.dtype) -> Generator:
    arguments = about.about["kwargs"]
    network = generator_from_shapes(
        about.group("state"),
        lr_multiplier=arguments["mapping_kwargs"].get("lr_multiplier", 0.01),
        conv_clamp=arguments["synthesis_kwargs"].get("conv_clamp"),
    ).to(dtype)
    network.load_state_dict(about.group("state", dtype), strict=True)
    return network.eval().requires_grad_(False)


def tiny_generator(seed: int = 0, **options: Any) -> Generator:
    arguments: dict[str, Any] = {"channels": {4: 3, 8: 2}, "mapping_layers": 2} | options
    network = Generator(3, arguments.pop("c_dim", 0), 4, 8, **arguments).double()
    draw_weights(network, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.3)
    return network.eval().requires_grad_(False)


# ---- goldens ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize(("dtype", "prefix", "tolerance"), PRECISIONS)
def test_generator_matches_golden(name: str, dtype: torch.dtype, prefix: str, tolerance: float) -> None:
    """Images, intermediate w and the gradients of sum(image * grad_weight) with respect to z and ws."""
    about = golden(f"stylegan2_{name}")
    network = load_generator(about, dtype)
    inputs, expected = about.group("in", dtype), about.group(prefix)
    z, c = inputs["z"].requires_grad_(), inputs.get("c")
    ws = network.mapping(z, c)
    images = network.synthesis(ws)
    gradient_z, gradient_ws = torch.autograd.grad((images * inputs["grad_weight"]).sum(), [z, ws])
    assert_near(network.mapping.to_w(z, c), expected["w"], tolerance)
    assert_near(images, expected["img"], tolerance)
    assert_near(network(z, c), expected["img"], tolerance)
    assert_near(gradient_z, expected["grad_z"], tolerance)
    assert_near(gradient_ws, expected["grad_ws"], tolerance)
    assert_near(network.synthesis(inputs["wplus"]), expected["img_wplus"], tolerance)
    truncated = network.mapping(z, c, truncation_psi=0.7)
    assert_near(network.synthesis(truncated), expected["img_psi0.7_cutNone"], tolerance)


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_details_match_golden(name: str) -> None:
    """What only the float32 run recorded: styles, block outputs, no noise, truncation with a cutoff."""
    about = golden(f"stylegan2_{name}")
    network = load_generator(about, torch.float32)
    inputs, expected = about.group("in"), about.group("out")
    recorded: dict[str, Tensor] = {}

    def record(key: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            if isinstance(output, tuple):
                recorded[f"{key}.x"] = output[0].clone()
                if output[1] is not None:
                    recorded[f"{key}.rgb"] = output[1].clone()
            else:
                recorded[key] = output

        return hook

    for path, module in network.synthesis.named_modules():
        if path.endswith(".affine"):
            module.register_forward_hook(record(f"s.{path.removesuffix('.affine')}"))
        elif path.startswith("b") and "." not in path:
            module.register_forward_hook(record(path.replace("b", "block")))
    z, c = inputs["z"], inputs.get("c")
    ws = network.mapping(z, c)
    network.synthesis(ws)
    layers = [key for key in expected if key.startswith(("s.", "block"))]
    assert len(layers) >= 7
    for key in layers:
        assert_near(recorded[key], expected[key], 1e-4)
    assert_near(ws, expected["ws"], 1e-4)
    assert_near(network.synthesis(ws, noise_mode="none"), expected["img_noise_none"], 1e-4)
    ws = network.mapping(z, c, truncation_psi=0.5, truncation_cutoff=3)
    assert_near(ws, expected["ws_psi0.5_cut3"], 1e-4)
    assert_near(network.synthesis(ws), expected["img_psi0.5_cut3"], 1e-4)


@pytest.mark.parametrize("name", ["c0", "c5"])
def test_discriminator_matches_golden(name: str) -> None:
    about = golden(f"stylegan2_disc_{name}")
    network = discriminator_from_shapes(about.group("state"), mbstd_group_size=2)
    network.load_state_dict(about.group("state"), strict=True)
    inputs, expected = about.group("in"), about.group("out")
    images = inputs["img"].requires_grad_()
    logits = network(images, inputs.get("c"))
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert_near(logits, expected["logits"], 1e-4)
    assert_near(gradient, expected["grad_img"], 1e-4)
    assert network.features(images).shape == (4, 12)


def test_rosinality_matches_golden() -> None:
    """A rosinality state dict under our names gives its images: mixing, truncation and gradients included."""
    about = golden("stylegan2_rosinality64")
    inputs, expected = about.group("in", torch.float64), about.group("out", torch.float64)
    state = ada_state_from_rosinality(about.group("state", torch.float64), inputs["latent_avg"])
    network = generator_from_shapes(state).double().eval()
    network.load_state_dict(state, strict=True)
    z = inputs["z"].requires_grad_()
    w = network.mapping.to_w(z)
    ws = w[:, None].expand(-1, network.num_ws, -1)
    images = network.synthesis(ws)
    gradient_z, gradient_w = torch.autograd.grad((images * inputs["grad_weight"]).sum(), [z, w])
    mixed = torch.cat([ws[:, :3], ws.flip(0)[:, 3:]], dim=1)
    for key, found in {
        "w": w,
        "latent": ws,
        "img": images,
        "grad_z": gradient_z,
        "grad_w": gradient_w,
        "img_wplus": network.synthesis(inputs["wplus"]),
        "img_psi0.6": network.synthesis(network.mapping(z, truncation_psi=0.6)),
        "img_mix3": network.synthesis(mixed),
    }.items():
        assert_near(found, expected[key], 1e-4)


@pytest.mark.parametrize("kind", ["sym", "asym"])
def test_resampling_matches_golden(kind: str) -> None:
    """FIR resampling and the resampling convolutions, also with a kernel that is not symmetric."""
    about = golden("stylegan2_primitives")
    inputs, expected = about.group("in"), about.group("out")
    x, kernel = inputs["x"], inputs["f" if kind == "sym" else "f_asym"]

    def check(found: Tensor, key: str) -> None:
        assert_near(found, expected[key], 1e-4)

    def plain(weight: str, **options: Any) -> Tensor:
        layer = Convolution(3, 4, inputs[weight].shape[-1], bias=False, activate=False, **options)
        layer.weight.data = inputs[weight] * inputs[weight][0].numel() ** 0.5  # cancels the fan-in gain
        layer.resample_filter = kernel
        return layer(x)

    check(upsample(x, kernel), f"upsample2d_{kind}")
    check(downsample(x, kernel), f"downsample2d_{kind}")
    check(blur(F.pad(x, (2, 1, 2, 1)), kernel, padding=0), f"filter2d_{kind}")
    check(plain("w3"), f"conv2d_resample_{kind}_w3_up1_down1_flip1")
    check(plain("w3", resample="down"), f"conv2d_resample_{kind}_w3_up1_down2_flip1")
    check(plain("w1", resample="down"), f"conv2d_resample_{kind}_w1_up1_down2_flip1")
    check(plain("w1", resample="up"), f"conv2d_resample_{kind}_w1_up2_down1_flip1")
    check(convolve_up(x, inputs["w3"], kernel), f"conv2d_resample_{kind}_w3_up2_down1_flip0")


def test_activation_matches_golden() -> None:
    """The gain of the leaky ReLU may be multiplied in before it, because it is positive."""
    about = golden("stylegan2_primitives")
    inputs, expected = about.group("in"), about.group("out")
    x = inputs["x"] + inputs["bias"][:, None, None]
    assert_near(stylegan2.leaky_relu(x * stylegan2.LRELU_GAIN), expected["bias_act_lrelu"], 1e-4)
    clamped = stylegan2.leaky_relu(x * 0.5).clamp(-0.4, 0.4)
    assert_near(clamped, expected["bias_act_lrelu_gain0.5_clamp0.4"], 1e-4)


@pytest.mark.parametrize("name", MANIFESTS)
def test_full_size_shapes_match_manifest(name: str) -> None:
    """Keys and shapes of the public checkpoints, without allocating a weight."""
    shapes = manifest(f"stylegan2_{name}")["keys"]
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    network = generator_from_shapes(state, device="meta")
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == shapes
    assert all(value.device.type == "meta" for value in network.state_dict().values())


def test_full_size_rosinality_shapes() -> None:
    shapes = manifest("rosinality_ffhq1024_g_ema")["keys"]
    state = ada_state_from_rosinality({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    network = generator_from_shapes(state, device="meta")
    expected = manifest("stylegan2_ffhq1024")["keys"]
    assert {key: list(value.shape) for key, value in state.items()} == expected
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == expected


# ---- mathematics -----------------------------------------------------------------------------------------


def plain_layer(layer: SynthesisLayer, x: Tensor, w: Tensor) -> Tensor:
    """The paper's formulation: a weight per sample, W' = W s / ||W s||, then one convolution per sample.

    Karras et al. 2020, Eqs. 1 and 3. Upsampling is written with explicit zeros between the pixels.
    """
    results = []
    for i, styles in enumerate(layer.affine(w)):
        weight = layer.weight * styles[None, :, None, None]
        weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        y = x[i : i + 1]
        if layer.up:
            spread = torch.zeros(1, y.shape[1], 2 * y.shape[2], 2 * y.shape[3], dtype=y.dtype)
            spread[:, :, ::2, ::2] = y
            y = F.conv2d(spread, weight.flip(2, 3), padding=2)
            kernel = layer.resample_filter.flip(0, 1) * 4.0
            y = torch.cat([F.conv2d(F.pad(p, (1, 0, 1, 0)), kernel[None, None]) for p in y.split(1, 1)], 1)
        else:
            y = F.conv2d(y, weight, padding=1)
        results.append(y)
    y = torch.cat(results) + layer.noise_const * layer.noise_strength + layer.bias[:, None, None]
    y = F.leaky_relu(y, 0.2) * 2.0**0.5
    return y if layer.conv_clamp is None else y.clamp(-layer.conv_clamp, layer.conv_clamp)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("conv_clamp", [None, 0.5])
def test_scaled_activations_equal_scaled_weights(up: bool, conv_clamp: float | None) -> None:
    """d * (W * (s x)) = (d W s) * x, for values, and for gradients with respect to x, w and the weights."""
    layer = SynthesisLayer(3, 4, 5, 8, up=up, conv_clamp=conv_clamp).double()
    draw_weights(layer, torch.Generator().manual_seed(0))
    nn.init.constant_(layer.noise_strength, 0.7)
    nn.init.constant_(layer.bias, 0.1)
    size = 4 if up else 8
    x, w = normal(3, 3, size, size).requires_grad_(), normal(3, 5, seed=1).requires_grad_()
    upstream = normal(3, 4, 8, 8, seed=2)
    inputs = [x, w, *layer.parameters()]
    ours, plain = layer(x, w), plain_layer(layer, x, w)
    assert_near(ours, plain, 1e-12)
    gradients = torch.autograd.grad(ours, inputs, upstream)
    for found, expected in zip(gradients, torch.autograd.grad(plain, inputs, upstream), strict=True):
        assert_near(found, expected, 1e-11)


@pytest.mark.parametrize("architecture", stylegan2.ARCHITECTURES)
def test_synthesis_gradcheck(architecture: stylegan2.Architecture) -> None:
    network = tiny_generator(architecture=architecture)
    assert torch.autograd.gradcheck(network.synthesis, normal(2, network.num_ws, 4).requires_grad_())


def test_a_draft_is_what_the_blocks_so_far_have_drawn() -> None:
    """Without the last block's colours the whole picture is the draft, enlarged."""
    synthesis, ws = tiny_generator(channels={4: 3, 8: 2}).synthesis, normal(2, 4, 4)
    assert synthesis.drafts == (4,)
    draft = synthesis(ws, resolution=4)
    assert torch.equal(synthesis(ws, resolution=8), synthesis(ws))
    with torch.no_grad():
        synthesis.get_parameter("b8.torgb.weight").zero_()
        synthesis.get_parameter("b8.torgb.bias").zero_()
    assert_near(synthesis(ws), upsample(draft, synthesis.get_buffer("b8.resample_filter")), 1e-12)
    assert torch.autograd.gradcheck(lambda ws: synthesis(ws, resolution=4), normal(2, 4, 4).requires_grad_())
    with pytest.raises(ValueError, match=r"draws no draft of 16 px; it draws \[4\]"):
        synthesis(ws, resolution=16)
    with pytest.raises(ValueError, match=r"it draws \[\]"):
        tiny_generator(architecture="resnet").synthesis(ws, resolution=4)


def test_several_cotangents_at_once_are_pulled_back_as_one_by_one() -> None:
    """The flow sends its roles through a frozen generator side by side, in one batched backward pass."""
    synthesis = tiny_generator().synthesis
    assert_cotangents_pull_back_together(synthesis, normal(2, synthesis.num_ws, 4))


def test_mapping_gradcheck() -> None:
    network = tiny_generator(c_dim=2)
    inputs = (normal(2, 3).requires_grad_(), normal(2, 2, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(network.mapping, inputs)


@pytest.mark.parametrize("architecture", stylegan2.ARCHITECTURES)
def test_discriminator_double_backward(architecture: stylegan2.Architecture) -> None:
    """First and second derivatives, which the R1 penalty needs."""
    network = Discriminator(0, 8, channels={4: 2, 8: 2}, architecture=architecture, mbstd_group_size=2).double()
    draw_weights(network, torch.Generator().manual_seed(0))
    images = normal(2, 3, 8, 8).requires_grad_()
    assert torch.autograd.gradcheck(network, images)
    assert torch.autograd.gradgradcheck(network, images)
    (gradient,) = torch.autograd.grad(network(images).sum(), images, create_graph=True)
    gradient.square().sum().backward()
    for name, parameter in network.named_parameters():
        # The last bias shifts every logit alike, so the penalty does not see it.
        assert (parameter.grad is None) == (name == "b4.out.bias"), name


@pytest.mark.parametrize("noise_mode", ["const", "none"])
def test_samples_do_not_depend_on_the_batch(noise_mode: stylegan2.NoiseMode) -> None:
    network = tiny_generator(c_dim=2)
    z, c = normal(5, 3), normal(5, 2, seed=1)
    together = network.synthesis(network.mapping(z, c), noise_mode=noise_mode)
    for i in range(5):
        alone = network.synthesis(network.mapping(z[i : i + 1], c[i : i + 1]), noise_mode=noise_mode)
        assert_near(alone[0], together[i], 1e-12)


def test_minibatch_deviation_groups() -> None:
    """Sample n belongs to group n mod 2 where 4 samples form groups of 2."""
    x = normal(4, 6, 2, 2)
    y = stylegan2.minibatch_standard_deviation(x, group_size=2, channels=1)
    for group in (0, 1):
        deviation = (x[group::2].var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        torch.testing.assert_close(y[group::2, 6:], deviation.expand(2, 1, 2, 2))
    with pytest.raises(ValueError, match="groups of 2"):
        stylegan2.minibatch_standard_deviation(x[:3], group_size=2, channels=1)


def test_random_noise_comes_from_the_generator() -> None:
    network = tiny_generator()
    ws = network.mapping(normal(2, 3))

    def image(seed: int) -> Tensor:
        return network.synthesis(ws, noise_mode="random", generator=torch.Generator().manual_seed(seed))

    torch.testing.assert_close(image(1), image(1), rtol=0, atol=0)
    assert not torch.equal(image(1), image(2))


def test_zero_noise_strength_is_skipped() -> None:
    """A frozen strength of 0 gives the picture without noise, also where the noise itself is not a number."""
    network = tiny_generator()
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        if name.endswith("noise_strength"):
            value.zero_()
        elif name.endswith("noise_const"):
            value.fill_(float("nan"))
    ws = network.mapping(normal(2, 3))
    torch.testing.assert_close(network.synthesis(ws), network.synthesis(ws, noise_mode="none"), rtol=0, atol=0)


def test_zero_noise_strength_still_learns() -> None:
    """While training, a strength of 0 must get its gradient."""
    network = Generator(3, 0, 4, 8, channels={4: 3, 8: 2}, mapping_layers=2).double()
    network(normal(2, 3)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_average_moves_towards_the_batch_mean() -> None:
    network = tiny_generator()
    w = normal(6, 4)
    network.mapping.track_average(w, decay=0.75)
    torch.testing.assert_close(network.mapping.w_avg, 0.25 * w.mean(dim=0))


def test_same_seed_same_weights() -> None:
    first, second, third = tiny_generator(1), tiny_generator(1), tiny_generator(2)
    for key, value in first.state_dict().items():
        torch.testing.assert_close(value, second.state_dict()[key], rtol=0, atol=0)
    assert not torch.equal(first.synthesis.get_parameter("b4.const"), third.synthesis.get_parameter("b4.const"))


@pytest.mark.parametrize("architecture", stylegan2.ARCHITECTURES)
def test_shapes_rebuild_the_network(architecture: stylegan2.Architecture) -> None:
    """A state dict describes its network: architecture, labels, widths and colour channels."""
    generator = tiny_generator(architecture=architecture, c_dim=2, embed_features=5, layer_features=6)
    rebuilt = generator_from_shapes(generator.state_dict()).double()
    rebuilt.load_state_dict(generator.state_dict(), strict=True)
    z, c = normal(2, 3), normal(2, 2, seed=1)
    assert_near(rebuilt(z, c), generator(z, c), 1e-14)
    discriminator = Discriminator(
        2, 8, 1, channels={4: 3, 8: 2}, architecture=architecture, cmap_dim=4, mapping_layers=2
    ).double()
    judge = discriminator_from_shapes(discriminator.state_dict()).double()
    judge.load_state_dict(discriminator.state_dict(), strict=True)
    images = normal(2, 1, 8, 8)
    assert_near(judge(images, c), discriminator(images, c), 1e-14)


@pytest.mark.parametrize(("c_dim", "logits"), [(3, 4), (0, 3)])
def test_a_picture_is_as_real_as_its_class_makes_it(c_dim: int, logits: int) -> None:
    """of_any_class = log mean_y exp(logit of class y): projected logits (ADA), or one output a class (TensorFlow)."""
    judge = Discriminator(c_dim, 8, channels={4: 3, 8: 2}, cmap_dim=logits, mapping_layers=2).double()
    images = normal(2, 3, 8, 8)
    if c_dim:
        by_class = torch.cat([judge(images, c.expand(2, -1)) for c in torch.eye(3, dtype=torch.float64)], dim=1)
    else:
        by_class = judge(images)
    assert by_class.shape == (2, 3) and judge.judges_by_class
    assert_near(judge.of_any_class(images), by_class.exp().mean(1, keepdim=True).log(), 1e-12)


def test_labels_are_normalised_with_z_or_apart() -> None:
    """TensorFlow's own: x = (z, c W), then x / sqrt(mean x^2); ADA's: each for itself."""
    network = stylegan2.MappingNetwork(3, 2, 4, num_ws=None, num_layers=1, normalizes_together=True).double()
    z, c = normal(5, 3), torch.eye(2, dtype=torch.float64)[[0, 1, 0, 1, 0]]
    embedded = c @ network.embed.weight.t() / 2**0.5 + network.embed.bias
    x = torch.cat([z, embedded], dim=1)
    x = x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()
    layer = network.get_submodule("fc0")
    assert_near(network.to_w(z, c), layer(x), 1e-14)
    apart = stylegan2.MappingNetwork(3, 2, 4, num_ws=None, num_layers=1).double()
    apart.load_state_dict(network.state_dict())
    assert not torch.allclose(apart.to_w(z, c), network.to_w(z, c))


def test_errors_say_what_to_do() -> None:
    network = tiny_generator(c_dim=2)
    with pytest.raises(ValueError, match=r"expected c of shape \[N, 2\], got None"):
        network(normal(1, 3))
    with pytest.raises(ValueError, match=r"expected z of shape \[N, 3\], got \[1, 4\]"):
        network(normal(1, 4), normal(1, 2))
    with pytest.raises(ValueError, match=r"expected ws of shape \[N, 4, 4\]"):
        network.synthesis(normal(1, 5, 4))
    with pytest.raises(ValueError, match="choose one of const, random, none"):
        network.synthesis(normal(1, 4, 4), noise_mode="loud")
    with pytest.raises(ValueError, match="choose one of skip, orig, resnet"):
        tiny_generator(architecture="dense")
    with pytest.raises(ValueError, match=r"lacks the resolutions \[8\]"):
        tiny_generator(channels={4: 2})
    with pytest.raises(ValueError, match="power of two"):
        Generator(3, 0, 4, 12, channels={})
    with pytest.raises(ValueError, match="StyleGAN2"):
        generator_from_shapes({"weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"expected images of shape \[N, 3, 8, 8\]"):
        Discriminator(0, 8, channels={4: 2, 8: 2})(torch.zeros(1, 3, 4, 4))

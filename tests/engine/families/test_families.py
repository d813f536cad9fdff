"""BigGAN, BigGAN-deep, dVAE and VQGAN as models: loaded from a folder or from files in the public formats, and run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from engine import __main__ as command_module
from engine.__main__ import main
from engine.checkpoints import open_checkpoint, write_safetensors
from engine.commands import generate as generate_command
from engine.errors import ModelError
from engine.families import find_family
from engine.families.common import class_names
from engine.inference.flow import Step
from engine.latents.classes import ClassSpace
from engine.latents.codebook import CodeSpace
from engine.models.loading import GeneratorModel, load_generator, load_prompt_model
from engine.models.table import first_settings, read_row
from engine.networks import biggan, biggan_deep, dalle_dvae, vqgan
from engine.settings import FlowSettings, GenerateSettings, SettingsError
from engine.tasks import generate
from tests.engine.tiny import write_row
from tests.goldens import assert_near, reference

NAMES = ("dress", "coat", "bag")


def networks_of(family: str) -> dict[str, nn.Module]:
    """Tiny random networks by role."""
    draws = torch.Generator().manual_seed(0)
    if family == "biggan":
        generator = biggan.Generator(12, 3, 4, channels=[(8, 8), (8, 8)], img_channels=1)
        discriminator = biggan.Discriminator(3, channels=[(1, 8, 8), (8, 8, 8)], down=[True, False])
        biggan.draw_weights(generator, draws)
        biggan.draw_weights(discriminator, draws)
        return {"generator": generator, "discriminator": discriminator}
    if family == "biggan_deep":
        channels = [(16, 16), (16, 8), (8, 4)]
        deep = biggan_deep.BigGAN(
            6, 4, 3, channel_width=4, channels=channels, up=[False, True, True], attention=2, n_stats=5
        )
        biggan_deep.draw_weights(deep, draws)
        return {"generator": deep}
    if family == "dalle_dvae":
        decoder = dalle_dvae.Decoder(4, 10, n_init=6, n_blk_per_group=1)
        return {"decoder": decoder, "encoder": dalle_dvae.Encoder(4, 10, n_blk_per_group=1)}
    encoder = vqgan.Encoder(32, (32, 32), 8, blocks=1)
    decoder_half = vqgan.Decoder((32, 32), 8, blocks=1)
    return {"autoencoder": vqgan.VQGAN(encoder, decoder_half, vqgan.PlainCodebook(10, 6), 8)}


OPTIONS: dict[str, dict[str, Any]] = {
    "biggan": {"classes": NAMES, "resolution": 16},
    "biggan_deep": {"classes": NAMES, "resolution": 16, "options": {"up": [False, True, True]}},
    "dalle_dvae": {"resolution": 32},
    "vqgan": {"resolution": 8},
}


def write_model(folder: Path, family: str, **values: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for role, network in networks_of(family).items():
            sha256 = write_safetensors(folder / f"{role}.safetensors", network.state_dict())
            files[role] = {"path": f"{role}.safetensors", "sha256": sha256}
    values = {"name": family, "kind": "generator", "family": family, "files": files, **OPTIONS[family], **values}
    write_row(folder, **values)
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {family: write_model(root / family, family) for family in OPTIONS}


def load(folder: Path) -> GeneratorModel:
    return load_generator(f"{folder}/")


def run(model: GeneratorModel, assets: Path, *, steps: int = 3, **options: Any) -> list[Step]:
    flow = FlowSettings(steps=steps, **options.pop("flow", {}))
    settings = GenerateSettings("a dress", n=3, flow=flow, **options)
    prompt_model = load_prompt_model("clip-mini", assets=assets)
    return list(generate(settings, model, prompt_model).steps())


# ---- every family ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", OPTIONS)
def test_a_folder_becomes_a_generator(family: str, folders: dict[str, Path]) -> None:
    """Pictures of its resolution in three channels, from every space, with a gradient."""
    model = load(folders[family])
    assert model.family == family and model.resolution == OPTIONS[family]["resolution"]
    for space in model.spaces.values():
        latents = space.sample(range(2)).requires_grad_()
        images = model.render(latents, space)
        assert images.shape == (2, 3, model.resolution, model.resolution)
        (gradient,) = torch.autograd.grad(images.square().sum(), latents)
        assert (gradient.flatten(1).norm(dim=1) > 0).all()
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("biggan", {"classes": ("dress", "bag"), "truncation_psi": 0.5, "flow": {"realism": 0.1}}),
        ("biggan", {"classes": ("dress", "bag"), "relaxed_classes": True}),
        ("biggan_deep", {"classes": ("coat",), "space": "z+", "truncation_psi": 0.6}),
        ("dalle_dvae", {"flow": {"detail_steps": 2}}),
        ("dalle_dvae", {"space": "soft", "flow": {"detail_steps": 1, "code_order": "centre"}}),
        ("vqgan", {"space": "straight-through", "flow": {"codebook": 0.0}}),
        ("vqgan", {"space": "codes", "flow": {"chunk": 2}}),
    ],
)
def test_a_run_moves_every_picture(
    family: str, options: dict[str, Any], folders: dict[str, Path], tiny_assets: Path
) -> None:
    steps = run(load(folders[family]), tiny_assets, **options)
    assert len(steps) == 4
    first, last = steps[0].images, steps[-1].images
    assert last.isfinite().all()
    if options.get("space") != "straight-through":  # codes may stay where they are for a few steps
        assert ((first - last).abs().flatten(1).amax(1) > 1e-5).all()
    assert not torch.equal(steps[0].particles.latents, steps[-1].particles.latents)


def test_chunks_differ_by_rounding(folders: dict[str, Path], tiny_assets: Path) -> None:
    """Three steps in float32 carry it to 3e-4 of coordinates near 1."""
    model = load(folders["biggan"])
    whole, parts = (run(model, tiny_assets, classes=("dress", "bag"), flow={"chunk": chunk})[-1] for chunk in (None, 1))
    torch.testing.assert_close(whole.particles.latents, parts.particles.latents, rtol=0, atol=3e-3)


@pytest.mark.parametrize("family", OPTIONS)
def test_an_unknown_default_space_is_refused(family: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="default_space is 'v'; there are"):
        load(write_model(tmp_path / family, family, default_space="v"))


@pytest.mark.parametrize("family", OPTIONS)
def test_a_file_of_another_family_is_refused(family: str, tmp_path: Path) -> None:
    other = {"biggan": "biggan_deep", "biggan_deep": "biggan", "dalle_dvae": "vqgan", "vqgan": "dalle_dvae"}[family]
    folder = write_model(tmp_path / family, family)
    row = json.loads((folder / "model.json").read_text())
    main = {"biggan": "generator", "biggan_deep": "generator", "dalle_dvae": "decoder", "vqgan": "autoencoder"}
    row["family"], row["files"] = other, {main[other]: row["files"][main[family]]}
    row["options"] = {}
    (folder / "model.json").write_text(json.dumps(row))
    with pytest.raises(ModelError, match=f"does not hold a {other} {main[other]}: this is no state dict"):
        load(folder)


# ---- classes ---------------------------------------------------------------------------------------------


def test_particles_keep_the_classes_that_were_chosen(folders: dict[str, Path], tiny_assets: Path) -> None:
    model = load(folders["biggan"])
    settings = GenerateSettings("a dress", n=4, classes=("bag", "coat"), flow=FlowSettings(steps=3))
    task = generate(settings, model, load_prompt_model("clip-mini", assets=tiny_assets))
    space = task.problem.space
    assert isinstance(space, ClassSpace)
    *_, last = task.steps()
    weights = space.decode(last.particles.latents)[:, -3:]
    assert weights.argmax(1).tolist() == [2, 1, 2, 1]


def test_classes_of_the_prompt_are_found_by_its_features(folders: dict[str, Path]) -> None:
    """With a prompt model that knows a handful of words."""

    class Words:
        name, sha256, logit_scale = "words", "0" * 64, 100.0

        def image_features(self, images: Tensor) -> Tensor:
            return nn.functional.normalize(images.flatten(1)[:, :4] + 0.1, dim=1)

        def text_features(self, texts: Any) -> Tensor:
            rows = [[*(float(name in text) for name in NAMES), 0.0] for text in texts]
            return nn.functional.normalize(torch.tensor(rows), dim=1)

    model, words = load(folders["biggan"]), Words()
    problem = generate(GenerateSettings("a bag and a coat", n=2), model, words).problem
    assert isinstance(problem.space, ClassSpace)
    assert problem.space.classes == (1, 2)
    with pytest.raises(SettingsError, match="no class is close to 'a cloud'"):
        generate(GenerateSettings("a cloud", n=2), model, words)


def test_classes_are_refused_where_there_are_none(folders: dict[str, Path], tiny_assets: Path) -> None:
    with pytest.raises(SettingsError, match="classes: avatars has none; leave them out"):
        run(load(folders["dalle_dvae"]), tiny_assets, classes=("dress",))
    with pytest.raises(SettingsError, match="no class 'dres'; did you mean dress"):
        run(load(folders["biggan"]), tiny_assets, classes=("dres",))


def test_class_names() -> None:
    assert class_names((), 3) == ("0", "1", "2")
    assert class_names((), 1000)[207] == "golden retriever"
    with pytest.raises(ModelError, match="has 4 classes, but its description names 3"):
        class_names(NAMES, 4)


def test_the_grey_discriminator_judges_the_mean(folders: dict[str, Path]) -> None:
    model = load(folders["biggan"])
    assert model.discriminator is not None
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    grey = images.mean(1, keepdim=True)
    torch.testing.assert_close(model.discriminator(images), model.discriminator(grey.expand(-1, 3, -1, -1)))


# ---- codes -----------------------------------------------------------------------------------------------


def test_particles_start_from_the_kept_codes(tmp_path: Path) -> None:
    bank = torch.randint(10, (3, 4, 4), generator=torch.Generator().manual_seed(0))
    folder = write_model(tmp_path / "bank", "dalle_dvae")
    row = json.loads((folder / "model.json").read_text())
    sha256 = write_safetensors(folder / "latents.safetensors", {"codes": bank})
    row["files"]["latents"] = {"path": "latents.safetensors", "sha256": sha256}
    (folder / "model.json").write_text(json.dumps(row))
    model = load(folder)
    for space in model.spaces.values():
        assert isinstance(space, CodeSpace)
        starts = space.indices(space.sample(range(5)))
        assert all(any(torch.equal(start, kept) for kept in bank) for start in starts)
    write_safetensors(folder / "latents.safetensors", {"codes": bank[:, :2]})
    row["files"]["latents"]["sha256"] = write_safetensors(folder / "latents.safetensors", {"codes": bank[:, :2]})
    (folder / "model.json").write_text(json.dumps({**row, "name": "other"}))
    with pytest.raises(ModelError, match="do not fit 10 codes at 4 x 4"):
        load_generator(str(folder))


def test_three_spaces_of_one_decoder_agree_at_the_codes(folders: dict[str, Path]) -> None:
    """A soft code that is nearly one-hot, a vector at its code and a straight-through code are one picture."""
    model = load(folders["dalle_dvae"])
    codes = model.spaces["codes"]
    images = [model.render(codes.sample([3]), name) for name in ("codes", "straight-through")]
    soft = model.spaces["soft"]
    images.append(model.render(20 * soft.sample([3]), "soft"))
    for other in images[1:]:
        assert_near(other, images[0], 1e-3)


# ---- the public formats ----------------------------------------------------------------------------------


def converted(folder: Path, family: str, states: dict[str, dict[str, Tensor]], **values: Any) -> GeneratorModel:
    """A model folder of safetensors with the tensors of an opened checkpoint."""
    folder.mkdir()
    files = {}
    for role, state in states.items():
        sha256 = write_safetensors(folder / f"{role}.safetensors", state)
        files[role] = {"path": f"{role}.safetensors", "sha256": sha256}
    write_row(folder, name=family, kind="generator", family=family, files=files, **values)
    return load(folder)


def opened(*names: str) -> dict[str, dict[str, Tensor]]:
    """The state dicts by role of the networks in those files."""
    states: dict[str, dict[str, Tensor]] = {}
    for name in names:
        states |= {k: dict(v) for k, v in open_checkpoint(reference(f"checkpoints/{name}")).networks.items()}
    return states


def expected_of(name: str) -> dict[str, Tensor]:
    return load_file(reference(f"checkpoints/{name}_expected.safetensors"))


def test_biggan_deep_of_the_public_format(tmp_path: Path) -> None:
    config = json.loads(reference("checkpoints/biggan-deep-tiny/config.json").read_text())
    up = [layer[0] for layer in config["layers"]]
    model = converted(tmp_path / "m", "biggan_deep", opened("biggan-deep-tiny"), resolution=64, options={"up": up})
    expected = expected_of("biggan-deep-tiny")
    decoded = torch.cat([expected["in.z"], expected["in.class"]], dim=1)
    for psi in (0.4, 0.43):
        found = model.synthesize(decoded, model.spaces["z"].truncated(psi))
        assert_near(found, expected[f"out.img_t{psi}"], 1e-4)


def test_dvae_of_the_public_format(tmp_path: Path) -> None:
    model = converted(tmp_path / "m", "dalle_dvae", opened("dalle_decoder.pkl", "dalle_encoder.pkl"), resolution=32)
    expected = expected_of("dalle")
    space = model.spaces["soft"]
    assert isinstance(space, CodeSpace)
    vectors = torch.einsum("nvhw,vd->ndhw", expected["in.soft"], space.book.codes)
    found = model.synthesize(vectors, space)
    assert_near(found.clamp(-1, 1), 2 * expected["out.img"] - 1, 1e-4)


@pytest.mark.parametrize("name", ["vqgan_tiny.ckpt", "vqgan_tiny_plcallbacks.ckpt"])
def test_vqgan_of_the_public_format(tmp_path: Path, name: str) -> None:
    model = converted(tmp_path / "m", "vqgan", opened(name), resolution=8)
    expected = expected_of("vqgan_tiny")
    assert_near(model.synthesize(expected["in.quant"], model.spaces["codes"]), expected["out.img"], 1e-4)
    rebuilt = model.network.quantized(model.network.encode(expected["in.x"]))
    assert_near(model.synthesize(rebuilt, model.spaces["codes"]), expected["out.rec"], 1e-4)


# ---- the command line ------------------------------------------------------------------------------------


def command(folder: Path, out: Path, *options: str) -> int:
    return main(["generate", "a dress", "--model", str(folder), "--n", "2", "--out", str(out), *options])


def test_commands_name_classes_and_stages(folders: dict[str, Path], tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "classes"
    assert command(folders["biggan"], out, "--classes", "bag, coat", "--steps", "1", "--relaxed-classes") == 0
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert settings["classes"] == ["bag", "coat"] and settings["relaxed_classes"] is True
    out = tmp_path / "stages"
    assert command(folders["dalle_dvae"], out, "--stage1", "2", "--stage2", "1", "--codebook", "0") == 0
    flow = json.loads((out / "run.json").read_text())["settings"]["flow"]
    assert (flow["steps"], flow["detail_steps"], flow["codebook"]) == (3, 1, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--classes", "dres"), "no class 'dres'; did you mean dress"),
        (("--classes", ","), "classes: a name is empty"),
        (("--truncation", "0"), "truncation: 0.0 is outside 0.05 to 1"),
        (("--steps", "3", "--stage1", "2"), "give --steps, or --stage1 and --stage2"),
        (("--stage1", "2", "--stage2", "-1"), "stage2: -1 is below 0"),
    ],
)
def test_wrong_commands_are_explained(
    options: tuple[str, ...],
    message: str,
    folders: dict[str, Path],
    tiny_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(folders["biggan"], tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err


def test_a_two_stage_model_has_both_stages_without_being_told(tiny_assets: Path) -> None:
    """By the family of a bundled model; --steps are both together, and keep their proportion."""
    family = find_family("dalle_dvae")
    assert (family.flow().steps, family.flow().detail_steps) == (120, 60) == (family.flow("kde").steps, 60)
    assert find_family("stylegan2").flow() == FlowSettings() == find_family("unheard of").flow()
    row = replace(read_row(tiny_assets / "avatars"), family="dalle_dvae", prompt_model="clip-other")
    settings = first_settings("avatars", row.family, row)
    assert (settings.prompt_model, settings.prompt, settings.flow.detail_steps) == ("clip-other", "a smile", 60)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), (120, 60)),
        (("--steps", "30"), (30, 15)),
        (("--stage1", "10"), (70, 60)),
        (("--stage2", "0"), (60, 0)),
        (("--preset", "kde", "--stage1", "3", "--stage2", "4"), (7, 4)),
    ],
)
def test_stages_of_a_command(
    options: tuple[str, ...], expected: tuple[int, int], tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = replace(read_row(tiny_bundle / "avatars"), name="mosaic", family="dalle_dvae", prompt_model="clip-other")
    monkeypatch.setattr(generate_command, "list_models", lambda: (row,))
    parsed = command_module._parser().parse_args(["generate", "x", "--model", "mosaic", "--out", "y", *options])
    settings = generate_command.settings_of(parsed)
    assert (settings.flow.steps, settings.flow.detail_steps) == expected
    assert settings.prompt_model == "clip-other"


def test_random_views_of_a_command(folders: dict[str, Path], tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "views"
    assert command(folders["biggan"], out, "--classes", "bag", "--steps", "1", "--cutouts", "2") == 0
    assert json.loads((out / "run.json").read_text())["settings"]["cutouts"] == 2


@pytest.mark.parametrize("task", ["edit", "inpaint"])
def test_only_a_stylegan2_edits(
    task: str, folders: dict[str, Path], tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, mask = tmp_path / "picture.png", tmp_path / "mask.png"
    Image.new("RGB", (32, 32), "teal").save(picture)
    Image.new("L", (32, 32), 255).save(mask)
    words = [str(picture), "a dress"] if task == "edit" else [str(picture), str(mask), "a dress"]
    assert main([task, *words, "--model", f"{folders['biggan']}/", "--out", str(tmp_path / "out")]) == 2
    assert "only a StyleGAN2 can edit pictures" in capsys.readouterr().err

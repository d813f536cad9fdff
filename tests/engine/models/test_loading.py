"""The table of models, loading, and what is said when a file is missing, damaged or not what it should be."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from engine.checkpoints import convert, open_checkpoint, read_safetensors, verify, write_safetensors
from engine.errors import ModelError
from engine.inference.terms import Matcher
from engine.latents.classes import ClassSpace
from engine.latents.sentences import ReadSpace, SentenceSpace
from engine.latents.spaces import WSpace
from engine.latents.styles import StyledSynthesis
from engine.models.loading import GeneratorModel, inspect_file, load_generator, load_other, load_prompt_model
from engine.models.table import ASSETS, family_of, list_models, read_row
from engine.networks import dfgan, stargan2
from engine.networks.stylegan2 import Discriminator, Generator
from tests.engine.tiny import CHANNELS, RESOLUTION, W_DIM, Z_DIM, write_reader, write_row
from tests.goldens import reference


@pytest.fixture
def generator(tiny_assets: Path) -> GeneratorModel:
    return load_generator("avatars", assets=tiny_assets)


def test_the_table_reads_rows_without_torch(tiny_assets: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from engine import list_models;"
        "print([row.name for row in list_models(Path(sys.argv[1]))], 'torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", script, str(tiny_assets)], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "['avatars', 'clip-mini'] False"


def test_rows_tell_size_and_files(tiny_assets: Path) -> None:
    avatars, clip_mini = list_models(tiny_assets)
    on_disk = sum(path.stat().st_size for path in (tiny_assets / "avatars").glob("*.safetensors"))
    assert avatars.size == on_disk > 0
    assert clip_mini.file("weights").path == tiny_assets / "clip-mini" / "clip-mini.safetensors"
    assert (avatars.kind, avatars.resolution, avatars.examples) == ("generator", RESOLUTION, ("a smile",))


def test_every_bundled_row_is_complete() -> None:
    rows = list_models(ASSETS)
    assert {"avatars", "clip-mini"} <= {row.name for row in rows}
    for row in rows:
        assert row.licence and row.files
        assert row.size < 25_000_000
        for file in row.files.values():
            assert verify(file.path, file.sha256) == file.sha256


def test_render_agrees_between_spaces(generator: GeneratorModel) -> None:
    """z, w and w+ are three ways to the same picture: ws = w for every layer, w = mapping(z)."""
    z = generator.spaces["z"].sample([3, 4])
    w = generator.network.mapping.to_w(z)
    from_z = generator.render(z, "z")
    assert from_z.shape == (2, 3, RESOLUTION, RESOLUTION)
    w_space = generator.spaces["w"]
    assert isinstance(w_space, WSpace)
    torch.testing.assert_close(generator.render(w - w_space.statistics.mean, "w_plain"), from_z)
    truncated = generator.spaces["z"].truncated(0.5)
    halfway = 0.5 * (w - w_space.statistics.mean)
    torch.testing.assert_close(generator.render(z, truncated), generator.render(halfway, "w_plain"))
    u = generator.spaces["w"].sample([3, 4])
    in_every_layer = u[:, None].repeat(1, generator.network.num_ws, 1)
    torch.testing.assert_close(generator.render(in_every_layer, "w+"), generator.render(u, "w"))


def test_render_is_differentiable_and_weights_are_frozen(generator: GeneratorModel) -> None:
    latents = generator.spaces["w"].sample([0]).requires_grad_()
    generator.render(latents, "w").square().sum().backward()
    assert latents.grad is not None and latents.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in generator.network.parameters())
    assert not generator.network.training


def test_render_names_the_spaces(generator: GeneratorModel) -> None:
    with pytest.raises(ValueError, match=r"no latent space 'v'; it has z, w, w_plain, w\+"):
        generator.render(torch.zeros(1, 8), "v")


def test_realism_of_a_picture_does_not_depend_on_the_others(generator: GeneratorModel) -> None:
    assert generator.discriminator is not None
    images = generator.render(generator.spaces["w"].sample(range(5)), "w")
    alone = torch.cat([generator.discriminator(image) for image in images.split(1)])
    torch.testing.assert_close(generator.discriminator(images), alone)


def test_drafts_are_smaller_and_pictures_as_ever(generator: GeneratorModel, damaged_assets: Path) -> None:
    folder = damaged_assets / "avatars"
    values = json.loads((folder / "model.json").read_text())
    judge = Discriminator(0, 8, channels={4: 8, 8: 8}, mbstd_channels=0)
    sha256 = write_safetensors(folder / "discriminator.safetensors", judge.state_dict())
    values["files"]["discriminator"]["sha256"] = sha256
    write_row(folder, **values, draft_resolution=8)
    drafting = load_generator("avatars", assets=damaged_assets)
    latents = generator.spaces["w"].sample(range(3))
    pictures = drafting.render(latents, "w")
    assert torch.equal(pictures, generator.render(latents, "w"))
    assert torch.equal(generator.render(latents, "w", draft=True), pictures)  # where the model has none
    drafts = drafting.render(latents, "w", draft=True)
    assert (drafting.draft_resolution, drafts.shape) == (8, (3, 3, 8, 8))
    assert drafting.discriminator is not None
    assert torch.equal(drafting.discriminator(drafts), judge(drafts))
    assert torch.equal(drafting.discriminator(pictures), judge(F.avg_pool2d(pictures, 2)))


def test_encoder_gives_w(generator: GeneratorModel) -> None:
    assert generator.encoder is not None
    assert generator.encoder(torch.zeros(2, 3, 64, 64)).shape == (2, W_DIM)


def test_stored_statistics_are_used(generator: GeneratorModel, tiny_assets: Path) -> None:
    stored = read_safetensors(tiny_assets / "avatars" / "latents.safetensors")
    u = torch.randn(3, *generator.spaces["w"].shape, generator=torch.Generator().manual_seed(0))
    expected = (stored["mean"] + u @ stored["factor"].T).clamp(stored["low"], stored["high"])
    torch.testing.assert_close(generator.spaces["w"].decode(u), expected)


@pytest.mark.parametrize("change", [{"mean": torch.zeros(3)}, {"factor": torch.ones(3, 3)}])
def test_statistics_of_another_generator(damaged_assets: Path, change: dict[str, torch.Tensor]) -> None:
    folder = damaged_assets / "avatars"
    path = folder / "latents.safetensors"
    values = json.loads((folder / "model.json").read_text())
    values["files"]["latents"]["sha256"] = write_safetensors(path, {**read_safetensors(path), **change})
    write_row(folder, **values)
    with pytest.raises(ModelError, match="does not fit a generator whose w has 8 numbers"):
        load_generator("avatars", assets=damaged_assets)


def with_latents(assets: Path, **change: torch.Tensor) -> GeneratorModel:
    """The tiny avatars with these tensors more in their latents file."""
    folder = assets / "avatars"
    path = folder / "latents.safetensors"
    values = json.loads((folder / "model.json").read_text())
    stored = read_safetensors(path) | {f"settle.{name}": value for name, value in change.items()}
    values["files"]["latents"]["sha256"] = write_safetensors(path, stored)
    write_row(folder, **values)
    return load_generator("avatars", assets=assets)


def settling(size: int) -> dict[str, torch.Tensor]:
    """Two of `size` coordinates are the weights of a choice, the others may be anything."""
    return {
        "mean": torch.full((size,), 0.5), "deviation": torch.ones(size), "leak": torch.tensor(0.1),
        "low": torch.full((size,), -9.0), "high": torch.full((size,), 9.0),
        "choice.hat": torch.tensor([0, 3]), "power.hat": torch.tensor(8.0),
    }  # fmt: skip


def test_w_settles_where_the_model_says_how(damaged_assets: Path) -> None:
    model = with_latents(damaged_assets, **settling(W_DIM))
    space = model.spaces["w_settled"]
    u = space.sample(range(20))
    hats = space.decode(u)[:, [0, 3]] + 0.5
    torch.testing.assert_close(hats.sum(1), torch.ones(20))
    assert (hats.max(1).values > 0.9).float().mean() > 0.5
    assert space.name == "w_settled"
    free = model.spaces["w"].decode(u)  # as it was learned, and so are all the others
    assert (free[:, [0, 3]].sum(1) != 0).all() and not free.allclose(space.decode(u), atol=0.1)
    layers = model.spaces["w+"].decode(u[:, None].expand(-1, *model.spaces["w+"].shape))
    torch.testing.assert_close(layers, free[:, None].expand_as(layers), atol=1e-5, rtol=1e-5)
    assert model.default_space == "w"  # unless its description says otherwise


def test_a_settling_of_another_generator(damaged_assets: Path) -> None:
    with pytest.raises(ModelError, match="settles no w of 8 numbers"):
        with_latents(damaged_assets, **settling(W_DIM + 1))
    incomplete = settling(W_DIM)
    del incomplete["power.hat"]
    stored = damaged_assets / "avatars" / "latents.safetensors"
    write_safetensors(stored, {name: value for name, value in read_safetensors(stored).items() if "settle" not in name})
    with pytest.raises(ModelError, match=r"lacks settle\.power\.hat"):
        with_latents(damaged_assets, **incomplete)


def test_a_model_is_loaded_once_even_by_two_threads(tiny_assets: Path) -> None:
    found: list[GeneratorModel] = []
    ask = lambda: found.append(load_generator("avatars", "cpu", assets=tiny_assets))  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(model) for model in found}) == 1


def test_own_file_and_own_folder(tiny_assets: Path) -> None:
    """A bare StyleGAN2 file has no statistics: they are estimated, and the pictures stay the same."""
    bundled = load_generator("avatars", assets=tiny_assets)
    own = load_generator(str(tiny_assets / "avatars" / "generator.safetensors"))
    z = bundled.spaces["z"].sample([1])
    torch.testing.assert_close(own.render(z, "z"), bundled.render(z, "z"), rtol=0, atol=0)
    assert own.sha256 == bundled.sha256
    assert own.default_space == "w" and own.discriminator is None
    assert load_generator(str(tiny_assets / "avatars")).name == "avatars"


@pytest.mark.parametrize(
    ("name", "family", "space"),
    [
        ("rosinality_32.pt", "stylegan2", "w"),
        ("sg2_tf_legacy32.pkl", "stylegan2", "w"),
        ("biggan-deep-tiny", "biggan_deep", "z"),
        ("vqgan_tiny.ckpt", "vqgan", "codes"),
        ("dalle_decoder.pkl", "dalle_dvae", "codes"),
    ],
)
def test_own_files_of_public_formats(
    name: str, family: str, space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they come, and converted to safetensors, they give the same pictures."""
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "cache"))
    path = reference(f"checkpoints/{name}")
    own = load_generator(str(path))
    assert (own.family, own.default_space) == (family, space)
    latents = own.spaces[space].sample([1])
    images = own.render(latents, space)
    assert images.shape == (1, 3, own.resolution, own.resolution) and images.isfinite().all()
    convert(open_checkpoint(path), tmp_path / "own.safetensors")
    again = load_generator(str(tmp_path / "own.safetensors"))
    torch.testing.assert_close(again.render(latents, space), images, rtol=0, atol=0)


def test_a_released_stargan_translates_and_draws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three networks and no discriminator; its domains have numbers where nothing names them."""
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "cache"))
    path = reference("checkpoints/stargan_100000_nets_ema.ckpt")
    model = load_generator(str(path))
    assert (model.family, dict(model.spaces), model.discriminator) == ("stargan2", {}, None)
    network = model.network
    assert isinstance(network, stargan2.Translator) and network.discriminator is None
    assert model.classes == tuple(map(str, range(network.num_domains)))
    side = model.resolution
    styles = network.mapping_network.to_domain(torch.zeros(1, network.mapping_network.latent_dim), 0)
    images = torch.zeros(1, 3, side, side)
    drawn = network.generator.draw(network.generator.content(images), styles)
    torch.testing.assert_close(drawn, network.generator(images, styles))
    assert load_other(str(path)).networks.keys() == {"generator", "mapping_network", "style_encoder"}
    found = inspect_file(path)
    assert (found.kind, found.family, found.resolution) == ("generator", "stargan2", side)


def test_dfgan_files_draw_from_z_and_a_sentence_that_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`{"model": {"netG": {"module.": ...}}}`, as DF-GAN's training writes."""
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "cache"))
    network = dfgan.Generator(10, 6, (8, 8, 4)).eval()
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"model": {"netG": state}}, tmp_path / "dfgan.pth")
    model = load_generator(str(tmp_path / "dfgan.pth"))
    assert (model.family, model.resolution, model.default_space) == ("dfgan", 16, "z")
    space = model.spaces["z"]
    latents = space.sample([1, 2]).requires_grad_()
    assert latents.shape == (2, 16) and torch.equal(space.sample([2])[0], latents[1])
    decoded = space.decode(latents)
    assert float(decoded[:, :10].abs().max()) <= 2 * 0.88 and float(decoded[:, 10:].abs().max()) <= 1
    torch.testing.assert_close(model.render(latents, "z"), network(decoded[:, :10], decoded[:, 10:]))
    model.render(latents, "z").square().sum().backward()
    assert latents.grad is not None and (latents.grad[:, 10:].abs().sum(1) > 0).all()
    torch.testing.assert_close(space.constrain(latents.detach()), latents.detach())
    halved = space.truncated(0.5).decode(latents)
    torch.testing.assert_close(halved, torch.cat([decoded[:, :10] / 2, decoded[:, 10:]], dim=1))


def test_dfgan_files_with_critics_judge_a_picture_by_its_own_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMI_CACHE", str(tmp_path / "cache"))
    networks = {
        "netG": dfgan.Generator(10, 6, (8, 8, 4)),
        "netD": dfgan.Discriminator((2, 4, 4)),
        "netC": dfgan.ConditionalHead(4 + 6, 3),
    }
    torch.save({"model": {name: network.state_dict() for name, network in networks.items()}}, tmp_path / "dfgan.pth")
    model = load_generator(str(tmp_path / "dfgan.pth"))
    critic, space = model.discriminator, model.spaces["z"]
    assert isinstance(critic, Matcher) and isinstance(space, SentenceSpace)
    latents = space.sample([1, 2])
    images, sentences = model.render(latents, "z"), space.sentences_of(latents)
    expected = networks["netC"](networks["netD"](images), sentences)
    torch.testing.assert_close(critic.match(critic(images), sentences), expected)


def test_who_reads_the_sentences_stands_in_the_row(damaged_assets: Path) -> None:
    """It is loaded when it is first asked, and sentence vectors are its text features."""
    write_reader(damaged_assets / "reader")
    model = load_generator("reader", assets=damaged_assets)
    space = model.spaces["z"]
    assert isinstance(space, ReadSpace) and isinstance(model.discriminator, Matcher)
    told = space.saying("a red hat")
    expected = load_prompt_model("clip-mini", assets=damaged_assets).text_features(["a red hat"])
    torch.testing.assert_close(told.sentence, expected[0])
    latents = told.sample([1, 2])
    assert torch.equal(model.render(latents, told), model.network(0.88 * latents, expected.expand(2, -1)))
    row = read_row(damaged_assets / "reader")
    assert (row.sentences, family_of("dfgan", row).flow().condition_weight) == ("clip-mini", 0.5)
    alone = load_generator(str(write_reader(damaged_assets / "unjudged", judged=False)))
    assert alone.discriminator is None and isinstance(alone.spaces["z"], ReadSpace)


def test_a_reader_comes_with_sentences_that_fit(damaged_assets: Path) -> None:
    folder = write_reader(damaged_assets / "reader")
    values = json.loads((folder / "model.json").read_text())
    del values["files"]["latents"]
    write_row(folder, **values)
    with pytest.raises(ModelError, match="names who reads sentences, but no `latents` file"):
        load_generator("reader", assets=damaged_assets)
    for number, (name, message) in enumerate((
        ("a/b", "is not a valid model description"),
        ("clip-maxi", "There is no prompt model .clip-maxi."),
        ("clip-mini", "has 256 numbers, and the generator is told one of 24"),
    )):  # fmt: skip
        folder = write_reader(damaged_assets / f"reader {number}", sentences=name)
        with pytest.raises(ModelError, match=message):
            space = load_generator(str(folder)).spaces["z"]
            assert isinstance(space, ReadSpace)
            space.saying("a hat")


def test_inspecting_tells_what_a_file_is(tiny_assets: Path) -> None:
    generator = tiny_assets / "avatars" / "generator.safetensors"
    found = inspect_file(generator)
    assert (found.kind, found.family, found.resolution, found.bytes) == (
        "generator",
        "stylegan2",
        RESOLUTION,
        generator.stat().st_size,
    )
    assert found.name == str(generator) and found.label == "generator.safetensors"
    assert inspect_file(tiny_assets / "avatars").label == "avatars/"
    prompt = inspect_file(tiny_assets / "clip-mini" / "clip-mini.safetensors")
    assert (prompt.kind, prompt.family, prompt.resolution) == ("prompt", "open_clip", 64)
    with pytest.raises(ModelError, match="There is no file"):
        inspect_file(tiny_assets / "nothing.pkl")
    with pytest.raises(ModelError, match="no architecture 'ViT-X'"):
        inspect_file(generator, architecture="ViT-X")


def test_unknown_names_list_the_valid_ones(tiny_assets: Path) -> None:
    with pytest.raises(ModelError, match=r"no generator model 'avatarz'; did you mean avatars\? Bundled: avatars"):
        load_generator("avatarz", assets=tiny_assets)
    with pytest.raises(ModelError, match=r"no prompt model 'qqq'\. Bundled: clip-mini"):
        load_prompt_model("qqq", assets=tiny_assets)
    with pytest.raises(ModelError, match="'clip-mini' is a prompt model; a generator model is needed"):
        load_generator("clip-mini", assets=tiny_assets)


def test_missing_file(damaged_assets: Path) -> None:
    (damaged_assets / "avatars" / "generator.safetensors").unlink()
    with pytest.raises(ModelError, match=r"generator\.safetensors is missing\. Fetch the file again"):
        load_generator("avatars", assets=damaged_assets)
    with pytest.raises(ModelError, match=r"There is no file nowhere/g\.safetensors"):
        load_generator("nowhere/g.safetensors")


@pytest.mark.parametrize("role", ["generator", "discriminator", "encoder", "latents"])
def test_one_flipped_bit_is_found(damaged_assets: Path, role: str) -> None:
    path = damaged_assets / "avatars" / f"{role}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=rf"{role}\.safetensors is damaged or was changed"):
        load_generator("avatars", assets=damaged_assets)


def test_a_failed_load_is_tried_again(damaged_assets: Path) -> None:
    path = damaged_assets / "avatars" / "generator.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:100])
    with pytest.raises(ModelError):
        load_generator("avatars", assets=damaged_assets)
    path.write_bytes(data)
    assert load_generator("avatars", assets=damaged_assets).resolution == RESOLUTION


@pytest.mark.parametrize("content", [b"", b"\x80\x04]", b"\xff" * 100, b'\x02\0\0\0\0\0\0\0{"'])
def test_own_file_that_is_no_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"own\.safetensors is refused: it"):
        load_generator(str(path))


def test_own_file_with_other_weights(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    write_safetensors(path, {"layer.weight": torch.zeros(2)})
    with pytest.raises(ModelError, match="belong to no network that is known here; its first keys: layer.weight"):
        load_generator(str(path))


def test_class_conditional_stylegans_draw_each_class(tmp_path: Path) -> None:
    """z and a class make the picture that the network makes of them; W holds all classes, so Edit has its W+."""
    path = tmp_path / "classes.safetensors"
    write_safetensors(path, Generator(Z_DIM, 3, W_DIM, RESOLUTION, channels=CHANNELS).state_dict())
    model = load_generator(str(path))
    assert (model.classes, model.default_space, model.discriminator) == (("0", "1", "2"), "z", None)
    space = model.spaces["z"]
    assert isinstance(space, ClassSpace)
    for number in range(3):
        one = space.holding([number])
        latents = one.sample([5, 6])
        expected = model.network(latents[:, :Z_DIM], F.one_hot(torch.tensor([number] * 2), 3).float())
        assert torch.allclose(model.render(latents, one), expected, atol=1e-5)
    halfway = space.truncated(0.5)
    w = halfway.decode(halfway.sample([5]))
    assert torch.allclose(w, torch.lerp(model.network.mapping.w_avg, space.decode(space.sample([5])), 0.5), atol=1e-6)
    assert model.render(model.spaces["w+"].sample([1]), "w+").shape == (1, 3, RESOLUTION, RESOLUTION)


@pytest.mark.parametrize("classes", [0, 3])
def test_grey_generators_draw_three_equal_channels(classes: int, tmp_path: Path) -> None:
    """In whatever way the page draws: from latents, from styles; and its discriminator sees their grey."""
    write_safetensors(
        tmp_path / "grey.safetensors",
        Generator(Z_DIM, classes, W_DIM, RESOLUTION, 1, channels=CHANNELS).state_dict(),
    )
    model = load_generator(str(tmp_path / "grey.safetensors"))
    images = model.render(model.spaces["w"].sample([1, 2]), "w")
    assert images.shape == (2, 3, RESOLUTION, RESOLUTION) and torch.equal(images[:, 0], images[:, 2])
    styled = StyledSynthesis(model.network.synthesis)
    w = model.spaces["w"].decode(model.spaces["w"].sample([1, 2]))
    drawn = styled(styled.styles(w[:, None].expand(-1, model.network.num_ws, -1)))
    assert torch.allclose(drawn, images, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 4])
def test_generators_of_other_channels_are_refused(channels: int, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    write_safetensors(path, Generator(Z_DIM, 0, W_DIM, RESOLUTION, channels, channels=CHANNELS).state_dict())
    with pytest.raises(ModelError, match=f"draws pictures of {channels} channels; only coloured ones, of 3, and grey"):
        load_generator(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "diffusion"}, "family 'diffusion'; generators are: stylegan2"),
        ({"kind": "toaster"}, "kind is 'toaster'"),
        ({"resolution": "wide"}, "not a valid model description"),
        (
            {"files": {"generator": {"path": "../../x", "sha256": "0" * 64}}},
            "expected the name of a file in the model's own folder",
        ),
        ({"files": {"generator": {"path": "x", "sha256": "0"}}}, "expected 64 hexadecimal digits"),
        ({"files": {}}, "names no 'generator' file"),
        ({"default_space": "v"}, "default_space is 'v'; there are z, w"),
        ({"tuned": {"diversity_gain": 1000}}, "diversity_gain.*0 to 100"),
        ({"tuned": {"steps": 3}}, "steps"),
        ({"draft_resolution": 12}, "draft_resolution is 12; its network has 4, 8"),
        ({"draft_resolution": 8}, "judges pictures of 16 px, and drafts have 8"),
    ],
)
def test_wrong_rows(damaged_assets: Path, change: dict[str, object], message: str) -> None:
    folder = damaged_assets / "avatars"
    values = json.loads((folder / "model.json").read_text())
    write_row(folder, **{**values, **change})
    with pytest.raises(ModelError, match=message):
        load_generator("avatars", assets=damaged_assets)


def test_incomplete_and_unreadable_rows(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a model: it holds no model\.json"):
        read_row(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ModelError, match=r"model\.json is not a valid model description: it is no readable JSON"):
        read_row(tmp_path)
    (tmp_path / "model.json").write_text('{"kind": "prompt"}')
    with pytest.raises(ModelError, match="it lacks 'name'"):
        read_row(tmp_path)
    (tmp_path / "model.json").write_text("[]")
    with pytest.raises(ModelError, match="not a valid model description"):
        read_row(tmp_path)


def test_duplicate_names_are_refused(damaged_assets: Path) -> None:
    values = json.loads((damaged_assets / "avatars" / "model.json").read_text())
    (damaged_assets / "copy").mkdir()
    write_row(damaged_assets / "copy", **values)
    with pytest.raises(ModelError, match="Two models are called 'avatars'"):
        list_models(damaged_assets)


def test_safetensors_round_trip(tmp_path: Path) -> None:
    """float16 storage keeps 11 significant bits; integers stay; equal tensors give equal bytes."""
    values = torch.randn(50, generator=torch.Generator().manual_seed(0))
    tensors = {"b": values, "a": torch.arange(3), "view": values[::2]}
    first = write_safetensors(tmp_path / "1.safetensors", tensors, dtype=torch.float16)
    second = write_safetensors(tmp_path / "2.safetensors", dict(reversed(tensors.items())), dtype=torch.float16)
    assert first == second
    read = read_safetensors(tmp_path / "1.safetensors")
    assert read["b"].dtype == torch.float32 and read["a"].tolist() == [0, 1, 2]
    torch.testing.assert_close(read["b"], values, rtol=2**-11, atol=2**-24)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.safetensors", "2.safetensors"]


def test_values_beyond_the_storage_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="big holds a value that is not finite"):
        write_safetensors(tmp_path / "x.safetensors", {"big": torch.tensor([1e6])}, dtype=torch.float16)
    assert not list(tmp_path.iterdir())

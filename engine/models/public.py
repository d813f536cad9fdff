"""The public models that can be fetched: one row each, facts only. Reading it needs no torch.

A hub tells the hash of every file when it is fetched; elsewhere none is published: there the hash of the first download
is recorded and later ones are compared with it. Sizes are about right; a download of more than half as much again is
refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from engine.errors import ModelError, did_you_mean

_STYLEGAN2_ADA = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/"
_STYLEGAN2_TF = "https://nvlabs-fi-cdn.nvidia.com/stylegan2/networks/"
_BIGGAN = "https://s3.amazonaws.com/models.huggingface.co/biggan/"
_E4E = "https://huggingface.co/AIRI-Institute/HairFastGAN/resolve/main/pretrained_models/encoder4editing/"
_DALLE = "https://cdn.openai.com/dall-e/"
_HEIBOX = "https://heibox.uni-heidelberg.de/d/"
_DROPBOX = "https://www.dropbox.com/s/"
_HUB = "https://huggingface.co/"

LARGEST = 12 << 30  # bytes of a file whose size nobody tells beforehand

_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_NVIDIA = "NVIDIA Source Code License, non-commercial"
_NVIDIA_CONDITIONS = "research or evaluation only, not commercially"


@dataclass(frozen=True)
class PublicFile:
    """One file: its name here, where it is, about how many megabytes it has (0: unknown), a published sha256.

    A name with a slash is a path in a folder of several parts. instead: what to fetch where the server has no such
    file; is_optional: it may be missing. text: what the file holds where we write it and nothing is fetched.
    """

    name: str
    url: str
    megabytes: float
    sha256: str | None = None
    instead: PublicFile | None = None
    is_optional: bool = False
    text: str = ""

    @property
    def max_bytes(self) -> int:
        """The size from which it is not the file that was meant."""
        return int(1.5e6 * self.megabytes) + (1 << 20) if self.megabytes else LARGEST


@dataclass(frozen=True)
class PublicModel:
    """What is known of a model before it is fetched.

    conditions: what its licence demands of the user, empty for licences that allow everything; they are accepted
    once. preprocessing: the range of its pixels; latents: what its latents are drawn from.
    """

    name: str
    family: str
    resolution: int
    files: tuple[PublicFile, ...]
    licence: str
    conditions: str
    paper: str
    shows: str
    preprocessing: str = "pixels in [-1, 1]"
    latents: str = "z: N(0, 1), 512 numbers"
    truncation_psi: float = 1.0
    classes: tuple[str, ...] = ()  # names, in the generator's order

    @property
    def megabytes(self) -> float:
        return sum(file.megabytes for file in self.files)

    @property
    def is_folder(self) -> bool:
        """Whether it comes as a folder of parts, each in one of its own."""
        return any("/" in file.name for file in self.files)

    @property
    def folder_name(self) -> str:
        """Its name as a folder may be called."""
        return re.sub(r"[^\w.+-]+", "--", self.name)


def _stylegan2_ada(
    name: str, file: str, resolution: int, megabytes: float, shows: str, *, classes: tuple[str, ...] = ()
) -> PublicModel:
    return PublicModel(
        name=name,
        family="stylegan2",
        resolution=resolution,
        files=(PublicFile(file.rpartition("/")[2], _STYLEGAN2_ADA + file, megabytes),),
        licence=_NVIDIA,
        conditions=_NVIDIA_CONDITIONS,
        paper="Karras et al. 2020, Training Generative Adversarial Networks with Limited Data",
        shows=shows,
        truncation_psi=0.7,
        classes=classes,
    )


def _stylegan2_tf(kind: str, resolution: int, megabytes: float, shows: str) -> PublicModel:
    file = f"stylegan2-{kind}-config-f.pkl"
    return PublicModel(
        name=f"stylegan2-{kind}-config-f",
        family="stylegan2",
        resolution=resolution,
        files=(PublicFile(file, _STYLEGAN2_TF + file, megabytes),),
        licence=_NVIDIA,
        conditions=_NVIDIA_CONDITIONS,
        paper="Karras et al. 2020, Analyzing and Improving the Image Quality of StyleGAN",
        shows=shows,
        truncation_psi=0.7,
    )


def _biggan_deep(resolution: int, megabytes: float) -> PublicModel:
    start = f"{_BIGGAN}biggan-deep-{resolution}-"
    return PublicModel(
        name=f"biggan-deep-{resolution}",
        family="biggan_deep",
        resolution=resolution,
        files=(
            PublicFile("pytorch_model.bin", start + "pytorch_model.bin", megabytes),
            PublicFile("config.json", start + "config.json", 0.001),
        ),
        licence="MIT",
        conditions="",
        paper="Brock et al. 2019, Large Scale GAN Training for High Fidelity Natural Image Synthesis",
        shows="1,000 classes of ImageNet",
        latents="z: t * truncated normal(-2, 2), 128 numbers, and weights of the classes",
        truncation_psi=0.4,
    )


def _vqgan(codes: int, folder: str) -> PublicModel:
    def file(path: str, megabytes: float) -> PublicFile:
        place = quote(f"/{path}", safe="")
        return PublicFile(path.rpartition("/")[2], f"{_HEIBOX}{folder}/files/?p={place}&dl=1", megabytes)

    return PublicModel(
        name=f"vqgan-imagenet-f16-{codes}",
        family="vqgan",
        resolution=256,
        files=(file("ckpts/last.ckpt", 980), file("configs/model.yaml", 0.001)),
        licence="MIT",
        conditions="",
        paper="Esser et al. 2021, Taming Transformers for High-Resolution Image Synthesis",
        shows="any picture (trained on ImageNet)",
        latents=f"a grid of codes, {codes} vectors of 256 numbers",
    )


def _stargan2(name: str, key: str, megabytes: float, shows: str, *, classes: tuple[str, ...]) -> PublicModel:
    return PublicModel(
        name=name,
        family="stargan2",
        resolution=256,
        files=(PublicFile("100000_nets_ema.ckpt", f"{_DROPBOX}{key}/100000_nets_ema.ckpt?dl=1", megabytes),),
        licence="CC BY-NC 4.0",
        conditions="not commercially, and with the authors named",
        paper="Choi et al. 2020, StarGAN v2: Diverse Image Synthesis for Multiple Domains",
        shows=shows,
        latents="z: N(0, 1), 16 numbers, to a style of 64",
        classes=classes,
    )


# Megabytes of each part of a pipeline in 16 bits: two bytes for each of its numbers.
_SD1 = {"unet": 1719.0, "vae": 167.0, "text_encoder": 246.0}
_SD2 = {"unet": 1732.0, "vae": 167.0, "text_encoder": 681.0}
_SDXL = {"unet": 5135.0, "vae": 167.0, "text_encoder": 246.0, "text_encoder_2": 1390.0}
_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}  # of text encoders: model
_SPECIAL = "special_tokens_map.json"
_LICENCE_FILES = ("LICENSE.md", "LICENSE", "LICENSE.txt")
_STABILITY = "Stability AI Community License"
_STABILITY_CONDITIONS = (
    "free for research, non-commercial use, and commercial use below 1 million US dollars of yearly revenue, above "
    "which Stability AI sells a licence; its acceptable use policy forbids some uses; LICENSE in the folder says it all"
)
_OPENRAIL = "CreativeML Open RAIL++-M"
_OPENRAIL_CONDITIONS = (
    "commercial use is free; uses that harm or deceive others, which its Attachment A lists, are forbidden, and who "
    "passes the model on passes these terms on"
)


def _pipeline(repository: str, parts: Mapping[str, float]) -> dict[str, PublicFile]:
    """The files of a folder in diffusers' layout that are read, by name: of weights the 16-bit ones, else the whole."""

    def file(name: str, megabytes: float = 0.1, **more: Any) -> PublicFile:
        return PublicFile(name, f"{_HUB}{repository}/resolve/main/{name}", megabytes, **more)

    files = [file("model_index.json"), file("scheduler/scheduler_config.json")]
    for part, megabytes in parts.items():
        stem = f"{part}/{_STEMS.get(part, 'model')}"
        whole = file(f"{stem}.safetensors", 2 * megabytes)
        files += [file(f"{part}/config.json"), file(f"{stem}.fp16.safetensors", megabytes, instead=whole)]
    for number in ("", "_2") if "text_encoder_2" in parts else ("",):
        words = f"tokenizer{number}/"
        files += [file(f"{words}vocab.json", 1.1), file(f"{words}merges.txt", 0.6)]
        files += [file(f"{words}{name}", is_optional=True) for name in ("tokenizer_config.json", _SPECIAL)]
    files += [file(name, is_optional=True) for name in _LICENCE_FILES]
    return {one.name: one for one in files}


def _scheduler(**fields: Any) -> PublicFile:
    """A scheduler's configuration where the folder that the rest is from is made for another."""
    noise = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return PublicFile("scheduler/scheduler_config.json", "", 0.001, text=json.dumps({**fields, **noise}, indent=1))


def _diffusion(
    name: str,
    files: Mapping[str, PublicFile],
    resolution: int,
    steps: str,
    terms: tuple[str, str],
    *,
    paper: str,
) -> PublicModel:
    draws = 4 * (resolution // 8) ** 2
    return PublicModel(
        name=name,
        family="one_step_diffusion",
        resolution=resolution,
        files=tuple(files.values()),
        licence=terms[0],
        conditions=terms[1],
        paper=paper,
        shows=f"photographs and any other picture, from words, in {steps}",
        latents=f"noise: N(0, 1), {draws:,} numbers",
    )


_XL_BASE = _pipeline("stabilityai/stable-diffusion-xl-base-1.0", _SDXL)
_LIGHTNING = f"{_HUB}ByteDance/SDXL-Lightning/resolve/main/sdxl_lightning_1step_unet_x0.safetensors"
_LCM_SDXL = f"{_HUB}latent-consistency/lcm-sdxl/resolve/main/"
_XL_UNET, _UNET_CONFIG = "unet/diffusion_pytorch_model.fp16.safetensors", "unet/config.json"
_DIFFUSION_MODELS = (
    _diffusion(
        "sd-turbo",
        _pipeline("stabilityai/sd-turbo", _SD2),
        512,
        "1 to 4 steps",
        (_STABILITY, _STABILITY_CONDITIONS),
        paper="Sauer et al. 2023, Adversarial Diffusion Distillation",
    ),
    _diffusion(
        "sdxl-turbo",
        _pipeline("stabilityai/sdxl-turbo", _SDXL),
        512,
        "1 to 4 steps",
        (_STABILITY, _STABILITY_CONDITIONS),
        paper="Sauer et al. 2023, Adversarial Diffusion Distillation",
    ),
    _diffusion(
        "lcm-dreamshaper-v7",
        _pipeline("SimianLuo/LCM_Dreamshaper_v7", _SD1),
        768,
        "4 steps (1 to 4)",
        ("MIT; of the model it was distilled from: CreativeML Open RAIL-M", _OPENRAIL_CONDITIONS),
        paper="Luo et al. 2023, Latent Consistency Models",
    ),
    _diffusion(
        "sdxl-lightning-1step",
        {
            **_XL_BASE,
            _XL_UNET: PublicFile(_XL_UNET, _LIGHTNING, _SDXL["unet"]),
            "scheduler/scheduler_config.json": _scheduler(
                _class_name="EulerDiscreteScheduler", prediction_type="sample", timestep_spacing="trailing"
            ),
        },
        1024,
        "1 step",
        (_OPENRAIL, _OPENRAIL_CONDITIONS),
        paper="Lin et al. 2024, SDXL-Lightning: Progressive Adversarial Diffusion Distillation",
    ),
    _diffusion(
        "lcm-sdxl",
        {
            **_XL_BASE,
            _UNET_CONFIG: PublicFile(_UNET_CONFIG, f"{_LCM_SDXL}config.json", 0.1),
            _XL_UNET: PublicFile(_XL_UNET, f"{_LCM_SDXL}diffusion_pytorch_model.fp16.safetensors", _SDXL["unet"]),
            "scheduler/scheduler_config.json": _scheduler(_class_name="LCMScheduler", prediction_type="epsilon"),
        },
        1024,
        "4 steps (1 to 4)",
        (_OPENRAIL, _OPENRAIL_CONDITIONS),
        paper="Luo et al. 2023, Latent Consistency Models",
    ),
)

PUBLIC_MODELS: tuple[PublicModel, ...] = (
    _stylegan2_ada("stylegan2-ada-ffhq", "ffhq.pkl", 1024, 382, "faces"),
    _stylegan2_ada("stylegan2-ada-metfaces", "metfaces.pkl", 1024, 382, "painted and carved faces"),
    _stylegan2_ada("stylegan2-ada-afhqcat", "afhqcat.pkl", 512, 364, "cats"),
    _stylegan2_ada("stylegan2-ada-afhqdog", "afhqdog.pkl", 512, 364, "dogs"),
    _stylegan2_ada("stylegan2-ada-afhqwild", "afhqwild.pkl", 512, 364, "wild animals"),
    _stylegan2_ada("stylegan2-ada-cifar10", "cifar10.pkl", 32, 245, "10 classes of CIFAR-10", classes=_CIFAR10),
    _stylegan2_ada("stylegan2-ada-brecahad", "brecahad.pkl", 512, 364, "breast tissue under the microscope"),
    _stylegan2_ada(
        "stylegan2-ada-ffhq-256",
        "transfer-learning-source-nets/ffhq-res256-mirror-paper256-noaug.pkl",
        256,
        298,
        "faces",
    ),
    _stylegan2_ada(
        "stylegan2-ada-ffhq-512",
        "transfer-learning-source-nets/ffhq-res512-mirror-stylegan2-noaug.pkl",
        512,
        364,
        "faces",
    ),
    _stylegan2_ada(
        "stylegan2-ada-ffhq-1024-mirror",
        "transfer-learning-source-nets/ffhq-res1024-mirror-stylegan2-noaug.pkl",
        1024,
        382,
        "faces",
    ),
    _stylegan2_ada(
        "stylegan2-ada-celebahq-256",
        "transfer-learning-source-nets/celebahq-res256-mirror-paper256-kimg100000-ada-target0.5.pkl",
        256,
        298,
        "faces of celebrities",
    ),
    _stylegan2_ada(
        "stylegan2-ada-lsundog-256",
        "transfer-learning-source-nets/lsundog-res256-paper256-kimg100000-noaug.pkl",
        256,
        298,
        "dogs",
    ),
    _stylegan2_tf("ffhq", 1024, 382, "faces"),
    _stylegan2_tf("car", 512, 364, "cars"),
    _stylegan2_tf("cat", 256, 358, "cats"),
    _stylegan2_tf("church", 256, 358, "churches"),
    _stylegan2_tf("horse", 256, 358, "horses"),
    PublicModel(
        name="e4e-ffhq",
        family="stylegan2",
        resolution=1024,
        files=(PublicFile("e4e_ffhq_encode.pt", _E4E + "e4e_ffhq_encode.pt", 1200),),
        licence=f"MIT; its generator: {_NVIDIA}",
        conditions=_NVIDIA_CONDITIONS,
        paper="Tov et al. 2021, Designing an Encoder for StyleGAN Image Manipulation",
        shows="faces, with an encoder that finds a picture's place in the model",
        truncation_psi=0.7,
    ),
    _biggan_deep(128, 211),
    _biggan_deep(256, 235),
    _biggan_deep(512, 236),
    PublicModel(
        name="dalle-dvae",
        family="dalle_dvae",
        resolution=256,
        files=(
            PublicFile("encoder.pkl", _DALLE + "encoder.pkl", 215),
            PublicFile("decoder.pkl", _DALLE + "decoder.pkl", 175),
        ),
        licence="modified MIT",
        conditions="",
        paper="Ramesh et al. 2021, Zero-Shot Text-to-Image Generation",
        shows="any picture",
        preprocessing="pixels in [0, 1], mapped to [.1, .9]",
        latents="a grid of 8192 codes, one for 8 x 8 pixels",
    ),
    _vqgan(1024, "8088892a516d4e3baf92"),
    _vqgan(16384, "a7530b09fed84f80a887"),
    _stargan2(
        "starganv2-celeba-hq", "96fmei6c93o8b8t", 330, "women and men, one made the other", classes=("female", "male")
    ),
    _stargan2(
        "starganv2-afhq",
        "etwm810v25h42sn",
        235,
        "cats, dogs and wild animals, one made the other",
        classes=("cat", "dog", "wild"),
    ),
    *_DIFFUSION_MODELS,
)


def public_model(name: str) -> PublicModel:
    """The row of that name. Raises ModelError with the closest name there is."""
    rows = {model.name: model for model in PUBLIC_MODELS}
    if name not in rows:
        raise ModelError(
            f"There is no public model {name!r}{did_you_mean(name, rows)} `python -m engine models list` shows all."
        )
    return rows[name]

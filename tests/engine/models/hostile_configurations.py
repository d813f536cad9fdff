"""Configurations that ask for code, for files elsewhere, for names to be looked up, or for more than there is.

`corpus()` gives for each what lies in its folder beside good weights, and what its refusal has to say. `evil.py` writes
the file named by the environment variable CANARY when anything imports or runs it.
"""

# ruff: noqa: E501  (one case a line)

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.engine.tiny import CLIP_CONFIG

EVIL = (
    "import os\nopen(os.environ['CANARY'], 'w').write('run')\nclass Evil:\n    from_pretrained = from_config = print\n"
)
REMOTE_CODE = {"auto_map": {"AutoTokenizer": ["evil.Evil", None], "AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}}
DEEP = "[" * 100_000


@dataclass(frozen=True)
class Case:
    """kind: clip, row, vqgan or biggan. links: names that point elsewhere."""

    kind: str
    says: str
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)


def corpus() -> dict[str, Case]:
    """By a label."""
    return dict([*_clip(), *_clip_files(), *_tokenizers(), *_rows(), *_yamls(), *_bigs()])


def _changed(values: Any, path: str, value: Any) -> Any:
    values = copy.deepcopy(values)
    *folders, last = path.split(".")
    inner = values
    for name in folders:
        inner = inner.setdefault(name, {})
    inner[last] = value
    return values


def _config(**changes: Any) -> str:
    values: Any = CLIP_CONFIG
    for path, value in changes.items():
        values = _changed(values, path, value)
    return json.dumps(values)


def _clip() -> Iterator[tuple[str, Case]]:
    text, vision, seen = "model_cfg.text_cfg.", "model_cfg.vision_cfg.", "preprocess_cfg."
    remote = {"tokenizer_config.json": json.dumps(REMOTE_CODE), "config.json": json.dumps(REMOTE_CODE), "evil.py": EVIL}
    trusted = {f"{text}hf_tokenizer_name": ".", f"{text}tokenizer_kwargs": {"trust_remote_code": True}}
    yield (
        "remote code of a tokenizer",
        Case(
            "clip",
            "tokenizer_kwargs.trust_remote_code is not a field",
            {"open_clip_config.json": _config(**trusted)} | remote,
        ),
    )
    by_name = {f"{text}hf_tokenizer_name": "."}
    yield (
        "a tokenizer that its folder describes",
        Case("clip", r"no file may have fetched by its name", {"open_clip_config.json": _config(**by_name)} | remote),
    )
    for label, path, value, says in (
        ("text tower of the hub", text + "hf_model_name", "someone/model", "no file may ask for"),
        ("text tower of the folder", text + "hf_model_name", ".", "no file may ask for"),
        ("text tower by path", text + "hf_model_name", "../../evil", "no file may ask for"),
        ("text tower as object", text + "hf_model_name", {"a": 1}, "hf_model_name is an object"),
        ("tokenizer of the hub", text + "hf_tokenizer_name", "someone/model", "fetched by its name"),
        ("tokenizer by path", text + "hf_tokenizer_name", "../../../etc", "fetched by its name"),
        ("tokenizer of a device", text + "hf_tokenizer_name", "/dev/zero", "fetched by its name"),
        ("tokenizer of an address", text + "hf_tokenizer_name", "http://127.0.0.1:1/x", "fetched by its name"),
        ("words of a device", text + "tokenizer_kwargs", {"bpe_path": "/dev/zero"}, "bpe_path is not a field"),
        (
            "words of an address",
            text + "tokenizer_kwargs",
            {"bpe_path": "http://127.0.0.1/"},
            "bpe_path is not a field",
        ),
        (
            "a tokenizer's class",
            text + "tokenizer_kwargs",
            {"tokenizer_class": "Evil"},
            "tokenizer_class is not a field",
        ),
        (
            "cleaning by name",
            text + "tokenizer_kwargs",
            {"clean": "__import__"},
            "clean is '__import__', expected one of",
        ),
        (
            "a reduction by name",
            text + "tokenizer_kwargs",
            {"reduction_mask": "syntax"},
            "reduction_mask is not a field",
        ),
        ("a mode", text + "tokenizer_mode", "evil", "tokenizer_mode is 'evil'"),
        ("image tower of the hub", vision + "timm_model_name", "hf-hub:someone/model", "timm_model_name is 'hf-hub:"),
        ("image tower of a folder", vision + "timm_model_name", "local-dir:/tmp", "timm_model_name is 'local-dir:"),
        (
            "image tower unlisted",
            vision + "timm_model_name",
            "resnet50",
            "timm_model_name is 'resnet50', expected one of",
        ),
        (
            "image tower to be fetched",
            vision + "timm_model_pretrained",
            True,
            "timm_model_pretrained is true, expected fal",
        ),
        ("pooling by name", vision + "timm_pool", "os.system", "timm_pool is 'os.system'"),
        ("arguments of a tower", vision + "timm_kwargs", {"x": 1}, "vision_cfg.timm_kwargs is not a field"),
        ("a class to build", "model_cfg._target_", "os.system", "model_cfg._target_ is not a field"),
        ("a hidden attribute", "model_cfg.__class__", "Evil", "model_cfg.__class__ is not a field"),
        ("an argument of the network", "model_cfg.cast_dtype", "float16", "model_cfg.cast_dtype is not a field"),
        (
            "an argument of the activation",
            vision + "act_kwargs",
            {"inplace": True},
            "act_kwargs.inplace is not a field",
        ),
        ("an argument of the norm", text + "norm_kwargs", {"device": "cuda"}, "norm_kwargs.device is not a field"),
        ("an unknown part", "auto_map", REMOTE_CODE, "auto_map is not a field"),
        ("endless width", text + "width", 10**9, "width is 1000000000, expected a whole number from 1 to 8,192"),
        ("more width than weights", text + "width", 4096, "a network of [0-9,]+ numbers, and the weights have"),
        (
            "a larger tower than weights",
            vision + "timm_model_name",
            "eva02_enormous_patch14_clip_224",
            "a network of 4,[0-9,]+",
        ),
        ("endless layers", text + "layers", 10**6, "layers is 1000000"),
        ("five stages", vision + "layers", [1, 1, 1, 1, 1], "layers is a list of 5, expected a list of 4"),
        ("endless pictures", vision + "image_size", 10**6, "image_size is 1000000"),
        ("endless texts", text + "context_length", 10**9, "context_length is 1000000000"),
        ("fewer words than the tokenizer", text + "vocab_size", 1000, "knows 1,000 words"),
        ("true as a number", text + "heads", True, "heads is true, expected a whole number"),
        ("text as a number", text + "heads", "2", "heads is '2', expected a whole number"),
        ("a number with a point", text + "heads", 2.0, r"heads is 2\.0, expected a whole number"),
        ("nothing as a number", "model_cfg.embed_dim", None, "embed_dim is null, expected a whole number"),
        ("no object", "model_cfg.vision_cfg", [1], "vision_cfg is a list of 1, expected an object"),
        ("a decoder of any size", "model_cfg.multimodal_cfg", {"layers": 10**7}, "multimodal_cfg.layers is 10000000"),
        ("a spread of nought", seen + "std", [0.5, 0, 0.5], r"std\[1\] is 0, expected"),
        ("two channels", seen + "mean", [0.5, 0.5], "mean is a list of 2, expected a list of 3"),
        ("resizing by name", seen + "interpolation", "evil.resize", "interpolation is 'evil.resize'"),
        ("colours by name", seen + "mode", "evil", "mode is 'evil'"),
    ):
        yield label, Case("clip", says, {"open_clip_config.json": _config(**{path: value}), "evil.py": EVIL})


def _clip_files() -> Iterator[tuple[str, Case]]:
    good = json.dumps(CLIP_CONFIG)
    for label, data, says in (
        ("not a number", good.replace("0.4", "NaN"), "it says NaN, which is no number"),
        ("infinity", good.replace("0.4", "-Infinity"), "it says -Infinity"),
        ("beyond floats", good.replace("0.4", "1e999"), "expected a number from"),
        ("digits without end", good.replace("0.4", "9" * 5000), "no readable JSON"),
        ("one name twice", good.replace('"embed_dim"', '"embed_dim": 24, "embed_dim"'), "it says embed_dim twice"),
        ("a deep nest", good.replace("0.4", DEEP[:20_000]), "more than 32 deep"),
        ("a long file", good + " " * (1 << 20), "longer than 65,536 bytes"),
        ("no text", b"\xff\xfe\x00\xd8", "no readable JSON"),
        ("a lonely half of a letter", good.replace("bicubic", "\\ud800"), "interpolation is"),
        ("a list", "[]", "expected an object"),
        ("python", "__import__('evil')", r"no readable JSON \(line 1\)"),
        ("nothing needed", "{}", "it lacks 'model_cfg'"),
    ):
        yield f"configuration: {label}", Case("clip", says, {"open_clip_config.json": data, "evil.py": EVIL})
    yield (
        "configuration of a device",
        Case("clip", "Put its open_clip_config", links={"open_clip_config.json": "/dev/zero"}),
    )
    yield (
        "configuration of a process",
        Case("clip", "no readable JSON|cannot be read", links={"open_clip_config.json": "/proc/self/environ"}),
    )


def _tokenizers() -> Iterator[tuple[str, Case]]:
    config = _config(**{"model_cfg.text_cfg.hf_tokenizer_name": "someone/model"})
    model = {"type": "BPE", "vocab": {"a": 0}, "merges": [], "end_of_word_suffix": "</w>"}
    for label, value, says in (
        ("of another kind", {"model": {"type": "Unigram", "vocab": []}}, "type is 'Unigram', expected \"BPE\""),
        ("of a class", {"model": {"type": "evil.Evil"}}, r"type is 'evil\.Evil'"),
        ("without words", {"model": {"type": "BPE"}}, "it lacks model.vocab"),
        ("with few letters", {"model": model}, "no number for 511 parts of words"),
        ("with numbers beyond", {"model": {**model, "vocab": {"a": 10**5}}}, "the text tower knows 49,408 words"),
        ("with one number twice", {"model": {**model, "vocab": {"a": 1, "b": 1}}}, "two of its words have one number"),
        ("with no pair", {"model": {**model, "merges": ["a b c"]}}, "is no pair"),
        ("with chance", {"model": {**model, "dropout": 0.5}}, "dropout is 0.5"),
        ("of a list", [], "expected an object"),
    ):
        files = {"open_clip_config.json": config, "tokenizer.json": json.dumps(value), "evil.py": EVIL}
        yield f"tokenizer.json {label}", Case("clip", says, files)


def _rows() -> Iterator[tuple[str, Case]]:
    row = {
        "name": "own",
        "kind": "generator",
        "family": "stylegan2",
        "resolution": 16,
        "licence": "MIT",
        "files": {"generator": {"path": "weights.safetensors", "sha256": "0" * 64}},
    }
    file = "files.generator."
    for label, path, value, says in (
        (
            "a path upwards",
            file + "path",
            "../secret",
            "files.generator.path is '../secret', expected the name of a file",
        ),
        ("the folder above", file + "path", "..", r"files.generator.path is '\.\.'"),
        ("an absolute path", file + "path", "/etc/passwd", "files.generator.path is '/etc/passwd'"),
        ("a Windows path", file + "path", "..\\secret", "files.generator.path is"),
        ("a Windows device", file + "path", "NUL", "files.generator.path is 'NUL'"),
        ("a Windows stream", file + "path", "a.pt:b", "files.generator.path is 'a.pt:b'"),
        ("a hidden file", file + "path", ".netrc", r"files.generator.path is '\.netrc'"),
        ("an address", file + "path", "http://127.0.0.1/x", "files.generator.path is 'http"),
        ("a short hash", file + "sha256", "0", "expected 64 hexadecimal digits"),
        ("a loader", file + "loader", "evil.load", "files.generator.loader is not a field"),
        ("code of its own", "code", "evil.py", "code is not a field"),
        ("a prompt model by path", "prompt_model", "/tmp/evil", "prompt_model is '/tmp/evil'"),
        ("a prompt model upwards", "prompt_model", "../evil", r"prompt_model is '\.\./evil'"),
        ("a prompt model to be fetched", "prompt_model", "open_clip:ViT-B-32/openai", "prompt_model is 'open_clip:"),
        ("a family by path", "family", "../evil", r"family is '\.\./evil'"),
        ("a family of nobody", "family", "os", "of the family 'os'; generators are"),
        ("a role by path", "files", {"../x": {"path": "a", "sha256": "0" * 64}}, "a name in files is '../x'"),
        ("an option by path", "options", {"a.b.c": 1}, r"a name in options is 'a\.b\.c'"),
        ("an option of any kind", "options", {"eps": {"a": 1}}, "options.eps is an object"),
        ("an endless side", "resolution", 10**9, "resolution is 1000000000"),
        ("a side in words", "resolution", "16", "resolution is '16'"),
        ("a distance beyond", "in_domain_distance", 2, "in_domain_distance is 2"),
        ("examples that are none", "examples", [{"a": 1}], r"examples\[0\] is an object"),
        ("a name with an escape", "name", "\x1b[31mred", "name is '"),
        ("a name of no end", "name", "x" * 10_000, "expected a text of at most 200 characters"),
    ):
        yield (
            f"model.json with {label}",
            Case("row", says, {"model.json": json.dumps(_changed(row, path, value)), "evil.py": EVIL}),
        )
    yield "model.json so deep", Case("row", "more than 32 deep", {"model.json": DEEP})
    yield (
        "model.json without a number",
        Case("row", "says NaN", {"model.json": json.dumps({**row, "resolution": float("nan")})}),
    )


def _yamls() -> Iterator[tuple[str, Case]]:
    def config(line: str) -> str:
        return f"model:\n  params:\n    n_embed: 20\n    ddconfig:\n      z_channels: 8\n      {line}\n"

    plain = "no readable yaml of plain values"
    for label, data, says in (
        ("a python object", config("resolution: !!python/object/apply:os.system ['touch canary']"), plain),
        ("a python name", config("resolution: !!python/name:evil.Evil"), plain),
        ("a python module", config("resolution: !!python/module:evil"), plain),
        ("a new python object", config("resolution: !!python/object/new:evil.Evil []"), plain),
        ("a tag of its own", config("resolution: !evil 8"), plain),
        ("a tag of yaml", config('resolution: !!float ""'), plain),
        ("binary", config("resolution: !!binary evil"), plain),
        ("aliases of aliases", "a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n", plain),
        ("a merged alias", "a: &a {x: 1}\nb: {<<: *a}\n", plain),
        ("a deep nest", "[" * 16_000, plain),
        ("sixty to the sixty", config(f"resolution: 1:{':'.join(['59'] * 4000)}.5"), plain),
        ("a date that is none", config("resolution: 2020-99-99"), plain),
        ("a side in words", config("resolution: wide"), "resolution is 'wide', expected a whole number"),
        ("a side without end", config("resolution: .inf"), "resolution is inf"),
        ("a side that is none", config("resolution: .nan"), "resolution is nan"),
        ("an endless side", config("resolution: 100000"), "resolution is 100000"),
        ("a list as a number", config("out_ch: [3]"), "out_ch is a list of 1"),
        ("true as a number", config("out_ch: true"), "out_ch is true"),
        ("a list as the model", "model: [1]", "model is a list of 1, expected an object"),
        ("numbers as names", "model: {1: 2}", "model is an object of 1, expected an object of named fields"),
        ("a long file", "a: 1\n" * 10_000, "longer than 16,384 bytes"),
        ("two documents", "a: 1\n---\nb: 1\n", plain),
    ):
        yield f"yaml with {label}", Case("vqgan", says, {"model.yaml": data, "evil.py": EVIL})
    yield (
        "yaml of a process",
        Case("vqgan", "plain values|describes no VQGAN|no description", links={"model.yaml": "/proc/self/environ"}),
    )


def _bigs() -> Iterator[tuple[str, Case]]:
    for label, data, says in (
        ("an exact nought", '{"eps": 0}', "eps is 0, expected a number above 0"),
        ("no number", '{"eps": NaN}', "eps is nan"),
        ("a number in words", '{"eps": "1e-4"}', "eps is '1e-4'"),
        ("layers of nothing", '{"layers": [[]]}', r"layers\[0\] is a list of 0"),
        ("layers of numbers", '{"layers": [[1, 2, 3]]}', "no list of"),
        ("layers without end", json.dumps({"layers": [[True, 1, 1]] * 1000}), "layers is a list of 1,000"),
        ("classes in words", '{"num_classes": "ten"}', "num_classes is 'ten'"),
        ("a deep nest", '{"a": ' + DEEP, "no readable JSON"),
    ):
        yield f"BigGAN's config.json with {label}", Case("biggan", says, {"config.json": data, "evil.py": EVIL})

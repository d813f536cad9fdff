"""The w of a picture from files of other programs: every kind, and whatever else such a file may be."""

from __future__ import annotations

import io
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.checkpoints import Refused, saved_w, write_safetensors
from engine.checkpoints.saved_w import is_saved_w, read_saved_w
from engine.errors import ModelError

W = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0))
Write = Callable[[Path], Any]

KINDS: dict[str, Write] = {
    "w_pivot.pt": lambda path: torch.save(W, path),
    "old.pt": lambda path: torch.save(W, path, _use_new_zipfile_serialization=False),
    "learnt.pt": lambda path: torch.save(torch.nn.Parameter(W), path),
    "last_of_all_steps.pt": lambda path: torch.save(torch.cat([torch.zeros(50, 6, 8), W])[-1:], path),
    "named.pt": lambda path: torch.save({"w": W, "loss": torch.tensor(3.0), "step": 7}, path),
    "of_one_picture.pt": lambda path: torch.save({"face.png": {"img": torch.ones(1, 3, 4, 4), "latent": W[0]}}, path),
    "listed.pt": lambda path: torch.save([W], path),
    "double.pt": lambda path: torch.save(W.double(), path),
    "array.pkl": lambda path: path.write_bytes(pickle.dumps(W.numpy(), protocol=4)),
    "projected_w.npz": lambda path: np.savez(path, w=W.numpy()),
    "compressed.npz": lambda path: np.savez_compressed(path, w=W.numpy(), seed=np.float32(3)),
    "only.npz": lambda path: np.savez(path, whatever=W.numpy()),
    "w.npy": lambda path: np.save(path, W.numpy()),
    "columns_first.npy": lambda path: np.save(path, np.asfortranarray(W.numpy())),
    "another_machine.npy": lambda path: np.save(path, W.numpy().astype(">f8")),
    "w.safetensors": lambda path: write_safetensors(path, {"w": W}),
}


def written(name: str, write: Write, folder: Path) -> Path:
    write(folder / name)
    return folder / name


@pytest.mark.parametrize("name", KINDS)
def test_every_kind(name: str, tmp_path: Path) -> None:
    """In float32, and in memory of its own: the file may go."""
    path = written(name, KINDS[name], tmp_path)
    assert is_saved_w(path)
    saved = read_saved_w(path)
    path.unlink()
    assert saved.name == name and saved.latents is None and saved.ws is not None
    assert torch.equal(saved.ws.reshape(W.shape), W) and saved.ws.dtype == torch.float32
    assert saved.ws.untyped_storage().nbytes() == 4 * W.numel()


def test_numbers_of_half_precision(tmp_path: Path) -> None:
    for name, write in {
        "a.npy": lambda path: np.save(path, W.numpy().astype(np.float16)),
        "b.pt": lambda path: torch.save(W.bfloat16(), path),
    }.items():
        ws = read_saved_w(written(name, write, tmp_path)).ws
        assert ws is not None and ws.dtype == torch.float32
        torch.testing.assert_close(ws, W, rtol=0.01, atol=0.01)


def test_as_invert_writes_it(tmp_path: Path) -> None:
    tensors = {"latents": W[0], "residual": torch.ones(5), "noise.b4.conv1": torch.ones(4, 4)}
    write_safetensors(tmp_path / "w.safetensors", tensors)
    saved = read_saved_w(tmp_path / "w.safetensors")
    assert saved.ws is None and saved.latents is not None and saved.residual is not None
    assert torch.equal(saved.latents, W[0]) and torch.equal(saved.residual, torch.ones(5))
    assert saved.noise.keys() == {"b4.conv1"}


# ---- what is refused -------------------------------------------------------------------------------------


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin-1")
    return b"\x93NUMPY" + version + struct.pack("<H" if version[0] == 1 else "<I", len(text)) + text + data


def described(shape: str, kind: str = "<f4") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"


def archive(*entries: tuple[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as made:
        for name, data in entries:
            made.writestr(name, data)
    return buffer.getvalue()


def saved_by_torch(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


class Evil:
    def __reduce__(self) -> Any:
        return (open, ("canary", "w"))


def array(values: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, **how)
    return buffer.getvalue()


FINE = npy(described("(2,)"), bytes(8))
HOSTILE: dict[str, tuple[bytes, str]] = {
    "NaN": (array(np.array([1, np.nan], np.float32)), "infinite or none at all"),
    "infinite": (saved_by_torch(torch.tensor([1.0, float("inf")])), "the search that made it has failed"),
    "too large for float32": (array(np.array([1e300, 0.0])), "infinite or none at all"),
    "whole numbers": (array(np.ones((6, 8), np.int64)), "type int64, expected numbers with a point"),
    "whole numbers of torch": (saved_by_torch(torch.ones(6, 8, dtype=torch.int64)), "type int64, expected"),
    "complex numbers": (array(np.ones(8, np.complex64)), "type complex64"),
    "truth values": (array(np.ones(8, bool)), "type bool"),
    "letters": (array(np.array(["a"])), "type <U1"),
    "objects": (array(np.array([Evil()]), allow_pickle=True), "type object"),
    "records": (array(np.zeros(2, [("a", "f4")])), "expected numbers with a point"),
    "a pickle that runs": (pickle.dumps(Evil()), r"it wants .*open"),
    "torch's that runs": (saved_by_torch({"w": Evil()}), r"it wants .*open"),
    "a larger claim": (npy(described("(1000000, 1000000)"), bytes(64)), "claims an array of 1000000 x 1000000"),
    "a negative claim": (npy(described("(-2, -4)"), bytes(32)), "claims an array of -2 x -4"),
    "nothing": (npy(described("(0,)")), "claims an array of 0"),
    "more than it says": (FINE + b"x", "holds 9 bytes; it is damaged"),
    "code for a header": (npy("__import__('os')"), "no readable numpy array"),
    "half a header": (FINE[:20], "no readable numpy array"),
    "an open bracket": (npy("(" * 500), "no readable numpy array"),
    "a long header": (npy(described("(2,)") + " " * 20_000, bytes(8)), "no readable numpy array"),
    "a later version": (npy(described("(2,)"), bytes(8), b"\x03\x00"), "array of records"),
    "a number alone": (array(np.float32(3)), "its array is of one number"),
    "too many dimensions": (array(np.ones((1, 1, 1, 1, 8), np.float32)), "1 x 1 x 1 x 1 x 8, expected a w"),
    "a picture's worth": (array(np.zeros((2048, 1024), np.float16)), "its array is of 2048 x 1024"),
    "several arrays": (archive(("a.npy", FINE), ("b.npy", FINE)), "holds the arrays a, b, expected one called w,"),
    "an array that is none": (archive(("w.npy", b"x" * 64)), "no readable numpy array"),
    "a bomb": (archive(("w.npy", bytes(9 << 20)), how=zipfile.ZIP_DEFLATED), "more than 8 MB"),
    "odd packing": (archive(("w.npy", FINE), how=zipfile.ZIP_LZMA), "in a way that numpy does not use"),
    "a wrong checksum": (archive(("w.npy", FINE)).replace(bytes(8), b"\1" * 8, 1), "its archive is damaged"),
    "two tensors": (saved_by_torch([W, W]), "holds 2 things, expected one array, or one called w,"),
    "a number": (saved_by_torch(5), "holds a int, expected one array"),
    "no tensor": (saved_by_torch({"w": 5, "latent": "x"}), "holds 2 things"),
    "dictionaries in each other": (saved_by_torch({"a": {"b": {"c": {"d": W}}}}), "holds 1 things, expected one array"),
    "a model": (saved_by_torch({"state_dict": {"a": W, "b": W}}), "holds 2 things"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In words, in no time, and nothing of it runs."""
    monkeypatch.chdir(tmp_path)
    data, reason = HOSTILE[name]
    (tmp_path / "w.bin").write_bytes(data)
    assert is_saved_w(tmp_path / "w.bin")
    began = time.perf_counter()
    with pytest.raises(Refused, match=rf"^w\.bin is refused: .*{reason}"):
        read_saved_w(tmp_path / "w.bin")
    assert time.perf_counter() - began < 10
    assert not (tmp_path / "canary").exists()


def test_files_that_are_cut_short_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w"
    for data, step in ((FINE, 1), (archive(("w.npy", FINE)), 7), (saved_by_torch(torch.ones(2)), 31)):
        for length in range(0, len(data), step):
            path.write_bytes(data[:length])
            with pytest.raises(ModelError):
                read_saved_w(path)


def test_files_of_other_kinds_are_none(tmp_path: Path) -> None:
    """Pictures, archives of pictures, folders, what is not there. A torch file too large to look into is one."""
    from PIL import Image

    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF"):
        Image.new("RGB", (9, 9)).save(tmp_path / kind, kind)
    (tmp_path / "pictures").write_bytes(archive(("a.png", b"x"), ("b.npy", FINE)))
    (tmp_path / "empty").touch()
    (tmp_path / "damaged").write_bytes(b"PK\x03\x04" + bytes(30))
    for path in tmp_path.iterdir():
        assert not is_saved_w(path), path
    assert not is_saved_w(tmp_path) and not is_saved_w(tmp_path / "gone")
    with (tmp_path / "large").open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(saved_w.MAX_ARCHIVE + 1)  # a hole, which takes no disk
    assert is_saved_w(tmp_path / "large")


def test_how_large_a_file_may_be(tmp_path: Path) -> None:
    with (tmp_path / "w.npy").open("wb") as file:
        file.write(FINE)
        file.truncate(saved_w.MAX_BYTES + 1)
    with pytest.raises(Refused, match="more than 256 MB, far more than a w needs"):
        read_saved_w(tmp_path / "w.npy")
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        read_saved_w(tmp_path / "gone.npy")

"""Mutated valid files: every one must open or be refused, and nothing else may happen.

    python -m tests.engine.checkpoints.fuzz --count 20000 --seed 0 --report tests/engine/checkpoints/fuzz_report.json

Mutations: flipped bits, bytes and lengths of extreme value, bytes inserted, removed, repeated or exchanged with
another file's, the end cut off; three in four aim at the part that describes (pickles, headers, directories) rather
than at the weights. `run_hostile` listens for anything that is run.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import struct
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.checkpoints import Refused, open_checkpoint
from engine.errors import ModelError
from tests.engine.checkpoints import expected, run_hostile
from tests.engine.checkpoints.hostile import archive
from tests.engine.checkpoints.legacy import rewrite_as_legacy

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 62, (1 << 64) - 1)
SLOW = 10.0  # seconds for one file of some 100 kB


def seeds(folder: Path) -> dict[str, bytes]:
    """Valid files of every format, as small as they come."""
    from safetensors.torch import save_file

    from engine.checkpoints import convert
    from tests.engine.checkpoints.test_opening import ada_pickle

    names = (
        "dalle_encoder.pkl", "rosinality_32.pt", "sg2_tf_legacy32.pkl", "stargan_100000_nets_ema.ckpt",
        "vqgan_tiny.ckpt", "biggan-deep-tiny/pytorch_model.bin",
    )  # fmt: skip
    files = {name: expected.path(name).read_bytes() for name in names}
    files["ada"] = ada_pickle(folder / "ada.pkl").read_bytes()
    files["ada4"] = ada_pickle(folder / "ada4.pkl", protocol=4).read_bytes()
    files["legacy dalle"] = rewrite_as_legacy(expected.path("dalle_decoder.pkl"), folder / "decoder").read_bytes()
    opened = open_checkpoint(expected.path("rosinality_32.pt"))
    convert(opened, folder / "converted")
    files["converted"] = (folder / "converted").read_bytes()
    save_file({key: tensor.contiguous() for key, tensor in opened.networks["generator"].items()}, folder / "plain")
    files["plain safetensors"] = (folder / "plain").read_bytes()
    return files


def mutated(data: bytes, other: bytes, random_: random.Random) -> bytes:
    """One to four mutations of `data`; of a zip archive half the time of its pickle, under a checksum that fits."""
    if data[:2] == b"PK" and random_.randrange(2):
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            entries = {name: file.read(name) for name in file.namelist()}
        described = next(name for name in entries if name.endswith("/data.pkl"))
        return archive({**entries, described: _several(entries[described], other, random_)})
    return _several(data, other, random_)


def _several(data: bytes, other: bytes, random_: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(random_.choice((1, 1, 1, 2, 4))):
        _mutate(result, other, random_)
    return bytes(result)


def _mutate(data: bytearray, other: bytes, random_: random.Random) -> None:
    place = _place(len(data), random_)
    kind = random_.randrange(8)
    if kind == 0:
        data[place] ^= 1 << random_.randrange(8)
    elif kind == 1:
        data[place] = random_.randrange(256)
    elif kind == 2:
        layout = random_.choice(("<B", "<H", "<I", "<Q"))
        size = struct.calcsize(layout)
        value = random_.choice(EXTREMES) % (1 << 8 * size)
        data[place : place + size] = struct.pack(layout, value)
    elif kind == 3:
        data[place:place] = random_.randbytes(random_.randrange(1, 9))
    elif kind == 4:
        del data[place : place + random_.randrange(1, 64)]
    elif kind == 5:
        data[place:place] = data[place : place + random_.randrange(1, 256)]
    elif kind == 6:
        begin = _place(len(other), random_)
        data[place : place + random_.randrange(64)] = other[begin : begin + random_.randrange(256)]
    else:
        del data[max(place, 1) :]
    if not data:
        data += b"\x80"


def _place(length: int, random_: random.Random) -> int:
    """A position: mostly in the first 30 kB, where the descriptions are, or in the last 10 kB (a zip's directory)."""
    kind = random_.randrange(4)
    if kind == 0 or length < 2:
        return random_.randrange(max(length, 1))
    if kind == 1:
        return max(0, length - 1 - random_.randrange(10_000))
    return random_.randrange(min(length, 30_000))


def run(count: int, seed: int) -> dict[str, Any]:
    """Opens `count` mutated files; tells how many opened, were refused, crashed, ran something or were slow."""
    random_ = random.Random(seed)
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    failures: list[str] = []
    slowest = 0.0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        folder = Path(name)
        cache = folder / "cache"
        files = seeds(folder)
        for label in files:
            (folder / "seed").write_bytes(files[label])
            open_checkpoint(folder / "seed", cache=cache)  # the seeds are valid, and all imports happen now
        sys.addaudithook(run_hostile.listen)
        for number, (label, data) in enumerate(_mutants(files, count, random_)):
            path = folder / "mutant"
            path.write_bytes(data)
            os.utime(path, (run_hostile.FUTURE, run_hostile.FUTURE))
            started = time.process_time()  # on a busy machine the clock tells of the other programs
            outcome, reason = _outcome(path)
            seconds = time.process_time() - started
            slowest = max(slowest, seconds)
            outcomes[outcome] += 1
            reasons[reason] += 1
            if outcome not in ("opened", "refused") or seconds > SLOW:
                failures.append(f"{number} ({label}): {outcome} {reason} {seconds:.1f} s")
                (Path(tempfile.gettempdir()) / f"fuzz-{seed}-{number}.bin").write_bytes(data)
                print(failures[-1], file=sys.stderr, flush=True)
            if number % 1000 == 0:
                print(f"{number} of {count}", file=sys.stderr, flush=True)
    common = {reason: times for reason, times in reasons.most_common(40) if reason}
    return {
        "count": count,
        "seed": seed,
        "files": len(files),
        "outcomes": dict(outcomes),
        "failures": failures,
        "slowest_seconds": round(slowest, 2),
        "reasons": common,
    }


def _mutants(files: dict[str, bytes], count: int, random_: random.Random) -> Iterator[tuple[str, bytes]]:
    labels = sorted(files)
    for number in range(count):
        label = labels[number % len(labels)]
        yield label, mutated(files[label], files[random_.choice(labels)], random_)


def _outcome(path: Path) -> tuple[str, str]:
    """What happened, and the reason with numbers and names left out."""
    from engine.checkpoints.configuration import complete
    from engine.checkpoints.opening import find_sources, read_files

    run_hostile.events.clear()
    run_hostile.watching = True
    try:
        parts = read_files(find_sources(path))
        complete(parts.family, parts.networks, parts.stated, {})
        outcome, reason = "opened", ""
    except Refused as error:
        outcome, reason = "refused", error.reason.split("'")[0].split(":")[0][:60]
    except ModelError as error:
        outcome, reason = "refused", f"ModelError {str(error)[-60:]}"
    except BaseException as error:  # noqa: BLE001 (every crash is to be reported)
        outcome, reason = "crashed", f"{type(error).__name__}: {error}"
    run_hostile.watching = False
    if run_hostile.events:
        outcome, reason = "ran something", "; ".join(run_hostile.events)
    return outcome, "".join(c for c in reason if not c.isdigit())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    started = time.perf_counter()
    result = run(options.count, options.seed)
    result["minutes"] = round((time.perf_counter() - started) / 60, 1)
    shown = json.dumps(result, indent=1)
    print(shown)
    if options.report:
        options.report.write_text(shown + "\n")
    sys.exit(1 if result["failures"] else 0)


if __name__ == "__main__":
    main()

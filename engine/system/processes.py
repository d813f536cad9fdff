"""Several processes that do one piece of work: each a share of its parts, and all get all results.

`torchrun --standalone --nproc-per-node 2 -m -- engine generate ...` starts them; without it there is one, and nothing
is sent. Every process keeps the whole state of a run and makes the same decisions from the same numbers.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed


def join() -> None:
    """Meets the other processes that were started together with this one; on GPUs each takes the one of its number."""
    has_gpus = torch.cuda.is_available()
    if has_gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    distributed.init_process_group("nccl" if has_gpus else "gloo")


def leave() -> None:
    """Ends what `join` began."""
    distributed.destroy_process_group()


Found = TypeVar("Found")


def agreed(work: Callable[[], Found]) -> Found:
    """What one process finds, or the error that it raises, for all of them: such as where they write."""
    if count() == 1:
        return work()
    told: list[Any] = [None, None]
    if number() == 0:
        try:
            told[0] = work()
        except Exception as error:  # all raise it
            told[1] = error
    distributed.broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    found: Found = told[0]
    return found


def count() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def number() -> int:
    """Which one this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def own(parts: Sequence[slice]) -> Sequence[slice]:
    """This process's share of the parts."""
    return parts[number() :: count()]


def parts_of(total: int, size: int) -> list[slice]:
    """Slices of at most `size` that make up `total`."""
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def by_parts(parts: Sequence[slice], work: Callable[[slice], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """work(part) -> tensors of its rows, for every part, each done by one process: all rows' tensors, to all of them.

    The parts are the same in however many processes, and so are the numbers.
    """
    done = {number_of: work(parts[number_of]) for number_of in range(number(), len(parts), count())}
    if count() > 1:
        sent: list[dict[int, tuple[Tensor, ...]] | None] = [None] * count()
        distributed.all_gather_object(sent, {key: tuple(t.cpu() for t in rows) for key, rows in done.items()})
        device = next((rows[0].device for rows in done.values()), torch.device("cpu"))
        done = {
            key: tuple(tensor.to(device) for tensor in rows) for share in sent if share for key, rows in share.items()
        }
    return tuple(torch.cat(column) for column in zip(*(done[key] for key in range(len(parts))), strict=True))

"""Where many small fits are made: here, in processes of this machine, or on a Dask cluster.

Results come in the order of their work, whoever does it, and are the same wherever they were made.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import cloudpickle  # type: ignore[import-untyped]
from joblib import Parallel, delayed  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from quietfleet.errors import PipelineError
from quietfleet.pipeline.project import MODULES

Work = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
"""Applies a function to each of these, in order."""

REACH: Final = 10.0  # seconds within which a scheduler answers


@contextmanager
def fanned_out(jobs: int = 1, dask: str = "") -> Iterator[Work]:
    """Yield who does the work: so many processes (1: none but this), or a Dask scheduler's workers.

    `PipelineError` when there is no scheduler at that address, or this machine has no Dask.
    """
    if dask:
        with _scheduler(dask) as work:
            yield work
    else:
        yield lambda function, items: _locally(jobs, function, items)


def portable(value: Any) -> bytes:
    """Pack an object for another process, with whatever an engineer's file defines of it."""
    for name, module in list(sys.modules.items()):
        if name.startswith(MODULES):
            cloudpickle.register_pickle_by_value(module)
    packed: bytes = cloudpickle.dumps(value)
    return packed


def unpacked(packed: bytes) -> Any:
    """Take apart what `portable` made, in this run, of this machine's own objects."""
    return pickle.loads(packed)  # noqa: S301 - never anything that came from elsewhere


def _locally(jobs: int, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    with threadpool_limits(limits=1):
        if jobs == 1 or len(items) == 1:
            return [function(item) for item in items]
        done: list[Any] = Parallel(n_jobs=jobs, prefer="processes")(delayed(_alone)(function, item) for item in items)
    return done


def _alone(function: Callable[[Any], Any], item: Any) -> Any:
    """Do one piece of work in one thread: more cost many times the CPU on a busy machine."""
    with threadpool_limits(limits=1):
        return function(item)


@contextmanager
def _scheduler(address: str) -> Iterator[Work]:
    try:
        from distributed import Client  # noqa: PLC0415 - an extra that few have
    except ImportError as error:
        raise PipelineError("training on Dask needs this package's extra: install quietfleet[dask]") from error
    try:
        client = Client(address, timeout=REACH, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError) as error:
        raise PipelineError(f"no Dask scheduler answers at {address}: start one, or leave `dask` empty") from error

    def work(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        try:
            futures = client.map(_alone, [function] * len(items), items, pure=False, retries=2)
            done: list[Any] = client.gather(futures)  # type: ignore[no-untyped-call]
        except (OSError, RuntimeError) as error:  # a lost scheduler, a worker that dies of it
            raise PipelineError(f"the Dask cluster at {address} gave up: {error}") from error
        return done

    with client:
        yield work

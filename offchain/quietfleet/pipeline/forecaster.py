"""`python -I -m quietfleet.pipeline.forecaster RUNS LOADS MEMORY`: the process in which a device's models run.

It has two sockets to the worker that started it: forecasts are asked for on one, models come on the other and are
checked in a thread, so that a large forest keeps no forecast waiting. After its imports it gives up what a model has no
use for: it opens no file and no socket any more, starts no process, writes nothing, and has so much memory and
so many CPU-seconds a request. It ends with its worker.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from quietfleet.errors import ModelRejected
from quietfleet.pipeline.forecaster_wire import (
    HEADER,
    Done,
    Drop,
    EachValue,
    Failed,
    Load,
    Ready,
    Run,
    RunEach,
    Values,
)
from quietfleet.pipeline.sessions import Sessions, open_sessions

CPU_SECONDS: Final = 30
"""The most that one request may take of a processor."""
_TURN: Final = 0.0005  # seconds that a forecast waits for a check at most
_NOTHING: Final = (0, 0)
_PDEATHSIG, _DUMPABLE, _NO_NEW_PRIVILEGES = 1, 4, 38  # of prctl(2)


class Forecaster:
    """The models that are loaded, and what is done with them."""

    def __init__(self) -> None:
        self._models: dict[int, Sessions] = {}
        self._decode_run = msgspec.msgpack.Decoder(Run | RunEach | Drop)
        self._decode_load = msgspec.msgpack.Decoder(Load)
        self._encode = msgspec.msgpack.Encoder()
        self._ends_at = 0

    def forecast(self, asked: bytes) -> bytes:
        """Answer on the line of forecasts."""
        self._more_time()
        request = self._decode_run.decode(asked)
        if isinstance(request, Drop):
            self._models.pop(request.model, None)
            return self._encode.encode(Done())
        try:
            return self._encode.encode(self._each(request) if isinstance(request, RunEach) else self._run(request))
        except Exception as error:  # noqa: BLE001 - the runtime's own exceptions share no base
            return self._encode.encode(Failed(type(error).__name__))

    def _run(self, request: Run) -> Values:
        begun = time.perf_counter_ns()
        rows = np.frombuffer(request.rows, dtype="<f4").reshape(request.count, -1)
        values = self._models[request.model].run(rows, request.device or None)
        return Values(values.astype("<f4", copy=False).tobytes(), time.perf_counter_ns() - begun)

    def _each(self, request: RunEach) -> EachValue:
        begun = time.perf_counter_ns()
        rows = np.frombuffer(request.rows, dtype="<f4").reshape(len(request.devices), -1)
        devices = [device or None for device in request.devices]
        values, failed = self._models[request.model].run_each(rows, devices)
        return EachValue(values.astype("<f4", copy=False).tobytes(), failed, time.perf_counter_ns() - begun)

    def load(self, asked: bytes) -> bytes:
        """Answer on the line of models."""
        self._more_time()
        request = self._decode_load.decode(asked)
        try:
            self._models[request.model] = open_sessions(request.artifact, request.personal, request.width)
        except ModelRejected as error:
            return self._encode.encode(Failed(str(error.args[0]) if error.args else "", rejected=True))
        except MemoryError:
            return self._encode.encode(Failed("it takes more memory than a model has", rejected=True))
        return self._encode.encode(Done())

    def _more_time(self) -> None:
        """Let the next request have its share of the processor, and the kernel end us if it takes more."""
        now = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
        if now + CPU_SECONDS > self._ends_at:
            self._ends_at = now + CPU_SECONDS + 1
            resource.setrlimit(resource.RLIMIT_CPU, (self._ends_at, resource.RLIM_INFINITY))


def main(runs: int, loads: int, memory: int) -> None:
    """Serve two lines, given as open sockets' numbers, within `memory` bytes above what this takes by itself."""
    _end_with_parent()
    asked, models = socket.socket(fileno=runs), socket.socket(fileno=loads)
    sys.setswitchinterval(_TURN)
    forecaster = Forecaster()
    threading.Thread(target=_serve_models, args=(forecaster, models), daemon=True).start()
    _give_up(memory)
    for request in _frames(asked):
        _send(asked, forecaster.forecast(request))


def _serve_models(forecaster: Forecaster, line: socket.socket) -> None:
    _send(line, msgspec.msgpack.encode(Ready()))
    for request in _frames(line):
        _send(line, forecaster.load(request))


def _frames(line: socket.socket) -> Iterator[bytes]:
    """What the worker says, until it is gone."""
    while header := _take(line, HEADER.size):
        yield _take(line, HEADER.unpack(header)[0])


def _take(line: socket.socket, count: int) -> bytes:
    first = line.recv(count)
    if len(first) == count or not first:
        return first
    whole = bytearray(first)
    while len(whole) < count:
        more = line.recv(count - len(whole))
        if not more:
            return b""
        whole += more
    return bytes(whole)


def _send(line: socket.socket, said: bytes) -> None:
    line.sendall(HEADER.pack(len(said)) + said)


def _end_with_parent() -> None:
    """Die with the worker, however it ends, and be the first to go when the machine runs out of memory."""
    before = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PDEATHSIG, signal.SIGKILL), (_DUMPABLE, 0), (_NO_NEW_PRIVILEGES, 1)):
        libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
    if os.getppid() != before:  # it ended in between
        sys.exit()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # that is the worker's to hear


def _give_up(memory: int) -> None:
    page = os.sysconf("SC_PAGESIZE")
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - pathlib is one more import
        size, *_, data, _ = (int(count) * page for count in file.read().split())
    for limit, most in ((resource.RLIMIT_AS, size + memory), (resource.RLIMIT_DATA, data + memory)):
        resource.setrlimit(limit, (most, most))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        resource.setrlimit(limit, _NOTHING)


if __name__ == "__main__":
    main(*(int(each) for each in sys.argv[1:]))

"""The process in which models run, as the worker that starts it sees it: two lines, and an end."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from quietfleet.pipeline.forecaster_wire import HEADER, Answer, Drop, Load, Run, RunEach

PROGRAM: Final = ("-m", "quietfleet.pipeline.forecaster")
_LOOK: Final = 0.02  # seconds between two looks at one that is slow to answer
_TICK: Final = os.sysconf("SC_CLK_TCK")
_WORDS: Final = 2048  # bytes of an answer beside its values
_ENVIRONMENT: Final = ("LD_LIBRARY_PATH", "LANG", "LC_ALL", "SYSTEMROOT")
_OURS: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


class Line:
    """One question at a time, each answered within its time; what comes back is held against what may come."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)
        self._encode = msgspec.msgpack.Encoder()
        self._decode = msgspec.msgpack.Decoder(Answer)

    def ask(self, request: Load | Run | RunEach | Drop, within: float, values: int) -> Answer:
        """Ask, and return the answer of at most so many values; OSError or MsgspecError."""
        until = self._say(request, within)
        return self._hear(until, values)

    def ask_soon(
        self, request: Run | RunEach | Drop, within: float, values: int, brief: float, spent: Callable[[], float]
    ) -> Answer:
        """Do as `ask`, but wait no longer for one that works on and on: `spent` tells the CPU-seconds it has had.

        After `brief` seconds it is given as many of the processor, however long that takes on a busy machine.
        """
        until = self._say(request, within)
        if not self._speaks(min(brief, within)):
            most = spent() + brief
            while not self._speaks(_LOOK):
                if spent() >= most or time.monotonic() >= until:
                    raise TimeoutError
        return self._hear(until, values)

    def _say(self, request: Load | Run | RunEach | Drop, within: float) -> float:
        """Ask, and return until when there is to be an answer."""
        said = self._encode.encode(request)
        until = time.monotonic() + within
        self._end.settimeout(within)
        self._end.sendall(HEADER.pack(len(said)) + said)
        return until

    def _speaks(self, within: float) -> bool:
        return bool(self._poll.poll(1000 * within))

    def hear(self, within: float, values: int) -> Answer:
        """Return what is said unasked; OSError or MsgspecError."""
        return self._hear(time.monotonic() + within, values)

    def _hear(self, until: float, values: int) -> Answer:
        most = 4 * values + _WORDS
        (size,) = HEADER.unpack(self._take(HEADER.size, until))
        if size > most:
            raise ConnectionError
        answer: Answer = self._decode.decode(self._take(size, until))
        return answer

    def _take(self, size: int, until: float) -> bytes:
        taken = bytearray()
        while len(taken) < size:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._end.settimeout(left)
            more = self._end.recv(size - len(taken))
            if not more:
                raise ConnectionError
            taken += more
        return bytes(taken)

    def close(self) -> None:
        """Wake whoever waits here, and hang up."""
        with suppress(OSError):  # the other end was faster
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()


class Process:
    """One such process; OSError if it cannot be started.

    It gets nothing of this one: no environment, no folder, no file but its two sockets. It ends with the thread that
    started it, even when that is killed.
    """

    def __init__(self, memory: int, program: Sequence[str] = PROGRAM) -> None:
        (runs, their_runs), (models, their_models) = socket.socketpair(), socket.socketpair()
        theirs = their_runs.fileno(), their_models.fileno()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own module, by this very interpreter
                [sys.executable, "-I", *program, *map(str, (*theirs, memory))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | _OURS,
                pass_fds=theirs,
                start_new_session=True,
            )
        except OSError:
            runs.close()
            models.close()
            raise
        finally:
            their_runs.close()
            their_models.close()
        self.runs, self.models = Line(runs), Line(models)
        self.ready = False
        self.loaded: set[int] = set()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def spent(self) -> float:
        """Return the CPU-seconds it has had so far; OSError once it is gone."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def end(self) -> None:
        """Kill it, and wait for that; it has nothing to lose."""
        self._process.kill()
        self.runs.close()
        self.models.close()
        self._process.wait()

"""A child process that speaks JSON lines, and what it costs the machine."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

ROOT: Final = Path(__file__).parents[2]
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_LINE: Final = 1 << 24


class Process:
    """Each line it says goes to `on_line`, and ends a wait for one of its keys."""

    def __init__(self, child: asyncio.subprocess.Process, on_line: Callable[[dict[str, Any]], None]) -> None:
        self._child, self._on_line = child, on_line
        self._waits: dict[str, asyncio.Future[Any]] = {}
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(
        cls, module: str, *arguments: str, on_line: Callable[[dict[str, Any]], None] = lambda _: None
    ) -> Self:
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", module, *arguments)
        child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe, limit=_LINE)
        return cls(child, on_line)

    def tell(self, **what: Any) -> None:
        assert self._child.stdin
        self._child.stdin.write(json.dumps(what).encode() + b"\n")

    async def hear(self, key: str) -> Any:
        """Wait until it says something under this key."""
        return await self._waits.setdefault(key, asyncio.get_running_loop().create_future())

    @property
    def alive(self) -> bool:
        return self._child.returncode is None

    @property
    def resident(self) -> int:
        """The bytes of memory it has now."""
        pages = Path(f"/proc/{self._child.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def cpu(self) -> float:
        """The seconds of processor time it took so far."""
        fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    async def stop(self) -> None:
        if self.alive:
            self._child.kill()
        await self._child.wait()
        self._listening.cancel()

    async def _listen(self) -> None:
        assert self._child.stdout
        async for line in self._child.stdout:
            said = json.loads(line)
            self._on_line(said)
            for key in said.keys() & self._waits.keys():
                self._waits.pop(key).set_result(said[key])
        for wait in self._waits.values():
            wait.set_exception(RuntimeError("a process ended"))

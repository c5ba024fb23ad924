"""A Redis server of one's own, with a password and a journal on disk; it can be killed and started again."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from quietfleet.errors import TestbedError
from quietfleet.testbed.anvil import free_port

MISSING: Final = "redis-server is not installed; on Debian: apt-get install redis-server, which tools/redis does"
_READY_WITHIN: Final = 30.0
_LOOK: Final = 0.02
_CONFIGURATION: Final = """
bind 127.0.0.1
protected-mode yes
appendonly yes
appendfsync always
save ""
"""


def installed() -> bool:
    """Tell whether the Debian package, or another build, is there."""
    return shutil.which("redis-server") is not None


class RedisServer:
    """One server on a free port of the loopback, whose data is in `folder`."""

    def __init__(self, folder: Path, password: str) -> None:
        self.port = free_port()
        self.password = password
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers; the password is not in it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        """Start the process and return when it answers."""
        program = shutil.which("redis-server")
        if program is None:
            raise TestbedError(MISSING)
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = f"{_CONFIGURATION}port {self.port}\ndir {self.folder}\nrequirepass {self.password}\n"
        (self.folder / "redis.conf").write_text(settings)
        with Path(os.devnull).open("ab") as output:
            command = [program, str(self.folder / "redis.conf")]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)  # noqa: S603 - our own
        try:
            self._await_answer()
        except BaseException:
            self.kill()
            raise
        return self

    def kill(self) -> None:
        """End it at once, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _await_answer(self) -> None:
        import redis  # noqa: PLC0415 - an extra

        with redis.Redis(port=self.port, password=self.password) as client:
            deadline = time.monotonic() + _READY_WITHIN
            while time.monotonic() < deadline:
                if self._process is None or self._process.poll() is not None:
                    raise TestbedError("redis-server ended at once")
                try:
                    client.ping()
                except redis.RedisError:
                    time.sleep(_LOOK)  # also while it reads its journal
                else:
                    return
        raise TestbedError(f"redis-server did not answer within {_READY_WITHIN} s")

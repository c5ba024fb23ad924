"""A container registry of one's own (Debian's docker-registry), with its blobs in a folder."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from quietfleet.errors import TestbedError
from quietfleet.testbed.anvil import free_port

PROGRAMS: Final = ("docker-registry", "skopeo")
MISSING: Final = "docker-registry or skopeo is missing; on Debian: apt-get install both, which tools/containers does"
_READY_WITHIN: Final = 30.0
_LOOK: Final = 0.02
_CONFIGURATION: Final = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: "{blobs}"}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def installed() -> bool:
    """Tell whether Debian's packages, or other builds, are there."""
    return all(shutil.which(program) for program in PROGRAMS)


class ContainerRegistry:
    """One registry on a free port of the loopback, without TLS and open to this machine."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """What image names of this registry begin with."""
        return f"127.0.0.1:{self.port}"

    def get(self, path: str, accept: str) -> bytes:
        """Fetch a manifest or blob of `/v2/`; TestbedError unless it is there."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_READY_WITHIN)
        try:
            connection.request("GET", f"/v2/{path}", headers={"Accept": accept})
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise TestbedError(f"the registry answers {answer.status} to {path}")
        return body

    def __enter__(self) -> Self:
        program = shutil.which("docker-registry")
        if program is None:
            raise TestbedError(MISSING)
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "registry.yml"
        settings.write_text(_CONFIGURATION.format(blobs=self.folder / "blobs", port=self.port))
        with Path(os.devnull).open("ab") as output:
            command = [program, "serve", str(settings)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)  # noqa: S603 - our own
        try:
            self._await_answer()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise TestbedError("docker-registry ended at once")
            try:
                self.get("", "application/json")
            except OSError:
                time.sleep(_LOOK)
            else:
                return
        raise TestbedError(f"docker-registry did not answer within {_READY_WITHIN} s")


def skopeo(*words: str) -> None:
    """Have skopeo copy images; TestbedError with what it says otherwise."""
    program = shutil.which("skopeo")
    if program is None:
        raise TestbedError(MISSING)
    # it would look for signatures, of which a registry of one's own has none
    done = subprocess.run([program, "--insecure-policy", *words], capture_output=True, text=True, check=False)  # noqa: S603 - as above
    if done.returncode:
        raise TestbedError(f"skopeo {' '.join(words)}: {done.stderr.strip()}")

"""Programs that a bench starts, asks in JSON lines, and ends; the field's run under Node, from bench/peers."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

PEERS: Final = Path(__file__).parent / "peers"


class Process:
    """One running program; `ask` sends a request and returns the answer to it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 -- a program of the bench's own choice
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def ask(self, **request: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def node_script(name: str) -> list[str]:
    """Return the command that runs a script of bench/peers."""
    return [_node(), str(PEERS / name)]


def versions(*packages: str) -> str:
    """Return the versions that a report names: Node's and those of packages."""
    said = subprocess.run([_node(), "--version"], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    return ", ".join([f"Node {said}", *(f"{package} {_version(package)}" for package in packages)])


def _version(package: str) -> str:
    return str(json.loads((PEERS / "node_modules" / package / "package.json").read_text())["version"])


def _node() -> str:
    return shutil.which("node") or "node"

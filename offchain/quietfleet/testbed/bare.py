"""`python -m quietfleet.testbed.bare …`: the command line as a build has it that installed one lock and nothing else.

Every other package of this environment is refused, as if it were not there; which ones may be had is worked out
beforehand (`only`), so that the process is none the larger for it.
"""

from __future__ import annotations

import os
import re
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

VARIABLE: Final = "QUIETFLEET_BARE"
_PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)


def only(lock: Path) -> dict[str, str]:
    """Return the environment variable that leaves a process the packages of a lock."""
    from importlib.metadata import packages_distributions  # noqa: PLC0415 - the parent's work alone

    wanted = {_plain(name) for name in _PINNED.findall(lock.read_text())}
    modules = [name for name, origins in packages_distributions().items() if wanted & set(map(_plain, origins))]
    return {VARIABLE: ",".join(sorted(modules))}


class Only:
    """A finder that refuses what is neither Python's, ours, nor among `modules`."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._allowed = {*modules, *sys.stdlib_module_names, "quietfleet"}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - as importlib calls it
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Return None for what others may look for; ModuleNotFoundError for what is not in this build."""
        top = fullname.partition(".")[0]
        if top not in self._allowed:
            raise ModuleNotFoundError(f"No module named {top!r} in this build", name=top)
        return None


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Run the command line."""
    sys.meta_path.insert(0, Only(os.environ[VARIABLE].split(",")))
    runpy.run_module("quietfleet.cli", run_name="__main__")  # as `-m` does, and not before the others are gone


if __name__ == "__main__":
    main()

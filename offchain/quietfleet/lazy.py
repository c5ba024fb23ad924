"""A package's names, each loaded when it is first asked for: a sensor uses few, and has not the libraries of all.

The package says its names once for readers and type checkers, under `TYPE_CHECKING`, and once in a table for us (PEP
562).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def handed_on(package: str, homes: Mapping[str, Iterable[str]]) -> Callable[[str], Any]:
    """Return a package's `__getattr__`: `homes` has the names that each of its modules hands on."""
    home = {name: f"{package}.{module}" for module, names in homes.items() for name in names}

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(home[name]), name)
        setattr(sys.modules[package], name, found)
        return found

    return find

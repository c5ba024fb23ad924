"""The logic behind `ape run`: scripts are no package, so the folder they lie in is put on the path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from scripts import _common, _deployment, _founding, _migration, _parameters, _record, _verification

__all__ = ["_common", "_deployment", "_founding", "_migration", "_parameters", "_record", "_verification"]

"""What an ML engineer writes: one small file that says what is read, what is learned from it, and how.

The file is Python and runs where models are trained, never on a device: what devices need of it travels as data.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import quietfleet
from quietfleet.errors import ProjectError
from quietfleet.monitor.integrity import ChannelRules
from quietfleet.pipeline.features import Features
from quietfleet.pipeline.head import Autonomy

SHIPPED: Final = ("forecast", "virtual_sensor")
_LOCKED: Final = ("numpy", "scipy", "scikit-learn", "skl2onnx", "onnx")
"""What else a model's numbers hang on, beside the project's file and this package."""
MODULES: Final = "quietfleet_project_"
"""What the modules that an engineer's files become are named, before a hash of the file."""
_MOST_FOLDS: Final = 20
_LONGEST_VALID: Final = 3650


@dataclass(frozen=True, slots=True)
class Channel:
    """A field of a reading: its unit, its physical range, its resolution; so many identical readings mean stuck.

    A reading without a `required` channel is refused; others may be missing.
    """

    unit: str
    low: float
    high: float
    resolution: float = 0.0
    stuck_after: int | None = 12
    required: bool = True

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"a channel's range goes from low to high, not from {self.low} to {self.high}")

    @property
    def rules(self) -> ChannelRules:
        """The same, as the monitor reads it."""
        return ChannelRules(self.low, self.high, self.resolution, self.stuck_after)


@dataclass(frozen=True, slots=True)
class Grid:
    """Try every combination of these parameters of the model."""

    parameters: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Randomised:
    """Try so many combinations, drawn from lists or from scipy distributions."""

    parameters: Mapping[str, Any]
    tries: int = 20


class Advice(StrEnum):
    """What devices tell their sensors beside the number."""

    NONE = "none"
    VENTILATION = "ventilation"
    CHECK = "check"  # whether the sensor reads what its neighbours say it should


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A model to be: `schema` names every field that is kept, `features` what the model sees of them.

    `model` is an unfitted scikit-learn estimator or pipeline, `folds` and `held_out` cut the time it is judged on;
    with `personal`, devices get models of their own where these are better. A forecast at most `tolerance` off, in
    the target's unit, counts as right. `autonomy` bounds what a device may learn by itself on top of the model; without
    it, nothing. Devices take the model up within `valid_days` of its making (real time).
    """

    name: str
    schema: Mapping[str, Channel]
    features: Features
    model: Any
    search: Grid | Randomised = field(default_factory=Grid)
    folds: int = 3
    held_out: float = 0.2
    personal: bool = False
    tolerance: float = 1.0
    advice: Advice = Advice.NONE
    autonomy: Autonomy | None = None
    minimum_rows: int = 240
    valid_days: float = 90.0
    code: str = ""

    def __post_init__(self) -> None:
        if not self.name.replace("-", "_").isidentifier():
            raise ValueError(f"{self.name!r} is no name for a project: letters, digits, - and _")
        unknown = [name for name in self.features.channels if name not in self.schema]
        if unknown:
            raise ValueError(f"the features read {unknown[0]}, which the schema does not name")
        optional = [name for name in self.features.channels if not self.schema[name].required]
        if self.features.target in optional:
            raise ValueError(f"the target {self.features.target} must be required in the schema")
        if not 1 < self.folds <= _MOST_FOLDS:
            raise ValueError(f"between 2 and {_MOST_FOLDS} folds, not {self.folds}")
        if not 0 < self.held_out <= 0.5:  # noqa: PLR2004 - half
            raise ValueError(f"held_out is a share of at most a half, not {self.held_out}")
        if not self.tolerance > 0:
            raise ValueError("tolerance is above 0")
        if not 0 < self.valid_days <= _LONGEST_VALID:
            raise ValueError(f"valid_days is above 0 and at most {_LONGEST_VALID}, not {self.valid_days}")

    @property
    def period(self) -> int:
        """Seconds between two readings of a device."""
        return self.features.period

    @property
    def rules(self) -> dict[str, ChannelRules]:
        return {name: channel.rules for name, channel in self.schema.items()}

    @property
    def unit(self) -> str:
        """The target's."""
        return self.schema[self.features.target].unit


def find_project(name: str) -> Path:
    """Return the file of a shipped project by its name, or the path that was meant."""
    if name not in SHIPPED:
        return Path(name)
    places = (Path(quietfleet.__file__).parents[2] / "pipelines", Path(sys.prefix) / "share/quietfleet/pipelines")
    found = [place / f"{name}.py" for place in places if (place / f"{name}.py").is_file()]
    if not found:
        raise ProjectError(f"the project {name} was not installed with this package: name a file")
    return found[0]


def load_project(path: Path) -> Project:
    """Run an engineer's file and return its `project`; `ProjectError` names the line that is wrong.

    The project's `code` is the hash of all that decides what it learns: the file, this package and its libraries.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ProjectError(f"{path}: {error.strerror}") from error
    project = getattr(_run(path, source), "project", None)
    if not isinstance(project, Project):
        raise ProjectError(f"{path} sets no `project = Project(...)`")
    return replace(project, code=_code(source))


def shipped(name: str = "forecast") -> Project:
    """Load one of the projects that come with this package."""
    return load_project(find_project(name))


def _run(path: Path, source: bytes) -> ModuleType:
    """Import the file under a name of its own, so that what it defines can travel to other processes by name."""
    name = f"{MODULES}{hashlib.sha256(source).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ProjectError(f"{path} is no Python file: its name ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102 - the engineer's own file
    except SyntaxError as error:
        del sys.modules[name]
        raise ProjectError(f"{path}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        del sys.modules[name]
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        raise ProjectError(f"{where}: {type(error).__name__}: {error}") from error
    return module


def _code(source: bytes) -> str:
    digest = hashlib.sha256(hashlib.sha256(source).digest())
    for part in _parts():
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _parts() -> Iterator[bytes]:
    yield quietfleet.__version__.encode()
    sources = [entry for entry in files("quietfleet.pipeline").iterdir() if entry.name.endswith(".py")]
    for entry in sorted(sources, key=lambda entry: entry.name):
        yield entry.name.encode() + b"\0" + entry.read_bytes()
    for name in _LOCKED:
        yield f"{name}=={_version(name)}".encode()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"

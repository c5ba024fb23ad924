"""Rules from findings to actions, as data: what is done about what the monitor finds, in a file that people can read.

`rules.toml` beside this module is what holds when an operator brings none.
"""

from __future__ import annotations

import enum
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from quietfleet.errors import MonitorError
from quietfleet.monitor.integrity import FindingKind

SHARED_DRIFT: Final = "shared drift"
LONE_DRIFT: Final = "lone drift"
LEFT_PEERS: Final = "left its peers"
LEFT_SITE: Final = "left its site"
POOR_HEALTH: Final = "poor health"
_OTHERS: Final = {SHARED_DRIFT, LONE_DRIFT, LEFT_PEERS, LEFT_SITE, POOR_HEALTH}
CAUSES: Final = frozenset({*map(str, FindingKind), *_OTHERS})
"""Everything an alarm can be about: the faults of `FindingKind`, and what is found by comparing."""

_MOST_RULES: Final = 64
_LARGEST: Final = 64 * 1024  # bytes of a file


class Action(enum.StrEnum):
    """What can be done; see `rules.toml`."""

    QUARANTINE = "quarantine"
    RECALIBRATE = "recalibrate"
    IMPUTE = "impute"
    LAST_KNOWN = "last known"
    SAFE_DEFAULT = "safe default"
    VERIFY = "verify"
    RETRAIN = "retrain"
    TELL = "tell"


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When one of `when` is found, in one of `channel` if any are named, do all of `then`."""

    when: Annotated[tuple[str, ...], Meta(min_length=1)]
    then: tuple[Action, ...] = ()
    channel: tuple[str, ...] = ()
    count: Annotated[int, Meta(ge=1)] = 1
    lasting: Annotated[float, Meta(ge=0)] = 0.0

    def fits(self, cause: str, channel: str, count: int, lasting: float) -> bool:
        """Tell whether this is about a finding of so many readings over so many seconds."""
        named = not self.channel or channel in self.channel
        return cause in self.when and named and count >= self.count and lasting >= self.lasting


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: Annotated[tuple[Rule, ...], Meta(max_length=_MOST_RULES)] = ()


class Rules(msgspec.Struct, frozen=True):
    """Rules in order."""

    rules: tuple[Rule, ...]

    def actions(self, cause: str, channel: str = "", *, count: int = 1, lasting: float = 0.0) -> tuple[Action, ...]:
        """Return what is to be done; nothing where no rule fits, which still is an alarm."""
        fit = (rule.then for rule in self.rules if rule.fits(cause, channel, count, lasting))
        return next(fit, ())


def read_rules(text: str, name: str = "the rules") -> Rules:
    """Read rules from TOML; `MonitorError` says in one sentence what is wrong with them."""
    try:
        found = msgspec.convert(tomllib.loads(text), _File, strict=True)
    except tomllib.TOMLDecodeError as error:
        raise MonitorError(f"{name} is no TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise MonitorError(f"{name}: {error}") from error
    for number, rule in enumerate(found.rule, 1):
        unknown = [cause for cause in rule.when if cause not in CAUSES]
        if unknown:
            known = ", ".join(sorted(CAUSES))
            raise MonitorError(f"{name}: rule {number} is about {unknown[0]!r}, which nothing finds; there is: {known}")
        if FindingKind.OUTAGE in rule.when and set(rule.then) - {Action.TELL}:
            raise MonitorError(f"{name}: rule {number}: an outage is a whole place's: nothing but `tell` can be done")
    return Rules(found.rule)


def load_rules(path: Path | None = None) -> Rules:
    """Read an operator's file, or without one what Quietfleet brings; `MonitorError`."""
    if path is None:
        return read_rules(files("quietfleet.monitor").joinpath("rules.toml").read_text(), "rules.toml")
    try:
        if path.stat().st_size > _LARGEST:
            raise MonitorError(f"{path} has more than {_LARGEST} bytes")
        return read_rules(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise MonitorError(f"{path} cannot be read: {error}") from error

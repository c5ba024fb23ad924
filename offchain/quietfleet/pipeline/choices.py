"""Which model each device gets, and what was known when that was chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec


class Kind(StrEnum):
    """Whose forecast a device is given."""

    PERSONAL = "personal"  # a model fitted to this device alone
    POOLED = "pooled"  # the one for everybody
    PERSISTENCE = "persistence"  # no model: all stays as it is


class Why(StrEnum):
    """What settled it."""

    BETTER = "clearly better than the pooled model"
    NOT_BETTER = "not clearly better than the pooled model"
    TOO_FEW = "too few samples"
    UNCONFIRMED = "worse than the pooled model on the held-out days"
    UNSHIPPABLE = "no form that devices take"


@dataclass(frozen=True, slots=True)
class Errors:
    """RMSE in the target's unit of each kind; None where there is none."""

    pooled: float | None = None
    personal: float | None = None
    persistence: float | None = None

    def of(self, kind: Kind) -> float | None:
        found: float | None = getattr(self, kind.value)
        return found


@dataclass(frozen=True, slots=True)
class Choice:
    """One device's; `validation` is the mean over the folds, `held_out` is over `n` samples that none learned from."""

    device: str
    kind: Kind
    why: Why
    n: int
    validation: Errors
    held_out: Errors
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def gain(self) -> float:
        """The share of the pooled model's error that is saved on the held-out days."""
        ours, pooled = self.held_out.of(self.kind), self.held_out.pooled
        return 1 - ours / pooled if ours is not None and pooled else 0.0


@dataclass(frozen=True, slots=True)
class Personal:
    """Every device's choice in the order of the dataset, and the ONNX bytes of each that is not the pooled model."""

    choices: tuple[Choice, ...]
    models: Mapping[str, bytes]

    @property
    def counts(self) -> dict[str, int]:
        """How many devices got what."""
        found = Counter(choice.kind.value for choice in self.choices)
        return {kind.value: found[kind.value] for kind in Kind}

    @property
    def reasons(self) -> dict[str, int]:
        found = Counter(choice.why.value for choice in self.choices)
        return {why.value: found[why.value] for why in Why if found[why.value]}

    @property
    def rmse(self) -> float | None:
        """Of all devices' held-out samples, each forecast as was chosen."""
        return self._over_all(lambda choice: choice.held_out.of(choice.kind))

    @property
    def pooled_rmse(self) -> float | None:
        """Of the same samples, all forecast by the pooled model."""
        return self._over_all(lambda choice: choice.held_out.pooled)

    def ranked(self) -> list[str]:
        """The devices with a model of their own, those that gain most first."""
        own = [choice for choice in self.choices if choice.device in self.models]
        return [choice.device for choice in sorted(own, key=lambda choice: (-choice.gain, choice.device))]

    def summary(self) -> dict[str, Any]:
        """What may leave with a model: numbers, and no device."""
        return {"counts": self.counts, "reasons": self.reasons, "rmse": self.rmse, "pooled_rmse": self.pooled_rmse}

    def to_plain(self) -> dict[str, Any]:
        """Return all but the models."""
        return self.summary() | {"devices": [msgspec.to_builtins(choice) for choice in self.choices]}

    def _over_all(self, error: Any) -> float | None:
        parts = [(choice.n, error(choice)) for choice in self.choices if choice.n]
        total = sum(count for count, _ in parts)
        return round((sum(count * rmse**2 for count, rmse in parts) / total) ** 0.5, 5) if total else None

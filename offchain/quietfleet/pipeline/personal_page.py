"""The part of a report that tells which devices got a model of their own, and what that is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from quietfleet.pipeline.choices import Choice, Kind, Personal
from quietfleet.pipeline.page import card, grid

DEVICES: Final = "Device by device"
_ROWS: Final = 60  # of the table; the JSON has them all


def told(
    choices: Sequence[Choice], unit: str, draw: Callable[[Sequence[Choice]], str]
) -> Iterator[tuple[str, str, list[str]]]:
    """Yield sections: title, text and cards; none where no device could have had one."""
    if choices:
        personal = Personal(tuple(choices), {})
        reasons = grid(("Why", "Devices"), [(why, f"{count:,}") for why, count in personal.reasons.items()])
        yield (
            "Models of their own",
            _summary(personal, unit),
            [card("Gain by device", draw(choices)), card("", reasons)],
        )
        yield DEVICES, "", [_table(choices)]


def _summary(personal: Personal, unit: str) -> str:
    counts, every = personal.counts, len(personal.choices)
    text = f"{counts[Kind.PERSONAL]} of {every} device{'s' * (every != 1)} got a model of their own"
    if counts[Kind.PERSISTENCE]:
        text += f", {counts[Kind.PERSISTENCE]} persistence instead of any model"
    if personal.rmse is not None and personal.pooled_rmse:
        saved = 1 - personal.rmse / personal.pooled_rmse
        text += f": all in all an RMSE of {personal.rmse:.3f} {unit} instead of {personal.pooled_rmse:.3f}, "
        text += f"{saved:.1%} less"
    return f"{text}."


def _table(choices: Sequence[Choice]) -> str:
    titles = ("Device", "Gets", "Gain", "n", "Pooled", "Own", "Persist.", "Pooled, folds", "Own, folds", "Parameters")
    rows = [
        (
            one.device,
            one.kind.value,
            f"{one.gain:.1%}" if one.kind is not Kind.POOLED else "-",
            f"{one.n:,}",
            *(_maybe(one.held_out.of(kind)) for kind in (Kind.POOLED, Kind.PERSONAL, Kind.PERSISTENCE)),
            *(_maybe(one.validation.of(kind)) for kind in (Kind.POOLED, Kind.PERSONAL)),
            _spelled(one.parameters),
        )
        for one in sorted(choices, key=lambda one: (-one.gain, one.device))[:_ROWS]
    ]
    left = len(choices) - len(rows)
    note = f"and {left} more in the JSON" if left > 0 else ""
    return card("RMSE on the held-out days, and on the folds that chose", grid(titles, rows), note)


def _maybe(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _spelled(parameters: Mapping[str, Any]) -> str:
    numbers = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in parameters.items()}
    return ", ".join(f"{name.rpartition('__')[2]} = {value}" for name, value in numbers.items()) or "-"

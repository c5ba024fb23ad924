"""What a run found out, as one HTML file that needs nothing else: no scripts, no links, light and dark.

The page is made from its JSON alone, so that it can be made again. Whatever came from data is escaped, and the page
forbids itself to load anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from quietfleet.errors import DataRejected
from quietfleet.pipeline import personal_page
from quietfleet.pipeline.choices import Choice, Personal
from quietfleet.pipeline.evaluate import COVERED, Evaluation, Examination, Group, Predictor, examine
from quietfleet.pipeline.features import Floats
from quietfleet.pipeline.ingest import Dataset
from quietfleet.pipeline.page import card, day, escaped, grid, page, section
from quietfleet.pipeline.project import Project
from quietfleet.pipeline.train import Samples, Trained, Tried

_LONGEST: Final = 1000  # points of a curve, the newest ones
_CURVES: Final = 3
_ROWS: Final = 60  # of a table; the JSON has them all
_SHOWN: Final = 12  # candidates of the search
_GOOD: Final = 0.05
"""What a share of errors may differ from the promise before the verdict says so."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One device's newest held-out moments, what it measured then, and what the model had said (the target's unit)."""

    device: str
    times: tuple[float, ...]
    truth: tuple[float, ...]
    forecast: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All that the page shows; `horizon` is in seconds, `since` and `until` bound the held-out moments (Unix s)."""

    project: str
    target: str
    unit: str
    horizon: int
    dataset: str
    code: str
    rows: int
    rejected: dict[str, int]
    learned: int
    since: float
    until: float
    metrics: Evaluation
    examination: Examination
    curves: tuple[Curve, ...]
    search: tuple[Tried, ...]
    parameters: dict[str, Any]
    choices: tuple[Choice, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    @classmethod
    def from_json(cls, data: bytes) -> Report:
        """Read what a run wrote; `DataRejected` when it is something else."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise DataRejected(f"this is no evaluation that a run wrote: {error}") from error


def compose(
    project: Project,
    dataset: Dataset,
    trained: Trained,
    learned: int,
    held_out: Samples,
    evaluation: Evaluation,
    champion: Floats | None = None,
    personal: Personal | None = None,
) -> Report:
    """Gather what a run found out."""
    features, predict = project.features, trained.model.predict
    found = examine(predict, held_out, horizon=features.horizon_seconds, champion=champion)
    return Report(
        project=project.name,
        target=features.target,
        unit=project.unit,
        horizon=features.horizon_seconds,
        dataset=dataset.id,
        code=project.code,
        rows=len(dataset),
        rejected=dict(dataset.lineage["rejected"]),
        learned=learned,
        since=float(held_out.times[0]) + features.horizon_seconds,
        until=float(held_out.times[-1]) + features.horizon_seconds,
        metrics=evaluation,
        examination=found,
        curves=tuple(_curve(predict, held_out, name, features.horizon_seconds) for name in _telling(found.devices)),
        search=trained.search,
        parameters=trained.parameters,
        choices=personal.choices if personal else (),
    )


def _telling(devices: Sequence[Group]) -> list[str]:
    """The best, the middle and the worst device."""
    ranked = [group.name for group in sorted(devices, key=lambda group: group.rmse)]
    places = np.linspace(0, len(ranked) - 1, min(_CURVES, len(ranked)))
    return [ranked[round(place)] for place in places]


def _curve(predict: Predictor, held_out: Samples, device: str, horizon: float) -> Curve:
    mine = held_out.of_device(held_out.devices.index(device)).take(slice(-_LONGEST, None))
    forecast = np.asarray(predict(mine.rows), dtype=np.float64).ravel()
    lines = (mine.times + horizon, mine.targets, forecast)
    times, truth, said = (tuple(round(float(value), 4) for value in line) for line in lines)
    return Curve(device, times, truth, said)


# the page

_WIDE: Final = ("Measured and modelled", personal_page.DEVICES, "In numbers")


def verdict(report: Report) -> str:
    """Say in one sentence what the model is worth."""
    metrics, unit = report.metrics, report.unit
    judged = [group for group in report.examination.devices if group.skill is not None]
    better = sum(group.skill is not None and group.skill > 0 for group in judged)
    off = f"The model is off by {metrics.rmse:.2f} {unit} (RMSE)"
    if not judged:
        return f"{off}; there is nothing to compare it with."
    if metrics.skill > 0:
        against = f"{off}, {metrics.skill:.0%} less than persistence"
    else:
        against = f"{off} and does not beat persistence ({metrics.persistence_rmse:.2f} {unit})"
    where = f"better on {better} of {len(judged)} device{'s' * (len(judged) != 1)}"
    if metrics.champion_skill is not None:
        word = "less" if metrics.champion_skill > 0 else "more"
        where += f", and {abs(metrics.champion_skill):.0%} {word} than the champion"
    return f"{against}: {where}."


def render(report: Report) -> str:
    """Return the page."""
    from quietfleet.pipeline import plots  # noqa: PLC0415 - matplotlib takes seconds to load

    found, unit = report.examination, report.unit
    chosen = next((place for place, one in enumerate(report.search) if one.parameters == report.parameters), -1)
    curves = [card(escaped(one.device), plots.trace(one.times, one.truth, one.forecast, unit)) for one in report.curves]
    sections = (
        (
            "Measured and modelled",
            "The best, the middle and the worst device, on the last days held out.",
            curves,
        ),
        (
            "Where the errors are",
            "Bars and lines are the model's RMSE; marks are what it has to beat.",
            [
                card("By device", plots.bars(found.devices, unit, "device")),
                card("By season", plots.bars(found.seasons, unit, "season")),
                card("By hour of the day, UTC", plots.hours(found.hours, unit)),
                card("Calibration", plots.calibration(found.calibration), _calibrated(report)),
            ],
        ),
        ("The search", "", [card("Candidates", plots.search(report.search, chosen, unit)), _candidates(report)]),
        *personal_page.told(report.choices, unit, plots.gains),
        ("In numbers", "", [_table(found.devices, "Device"), _table(found.seasons, "Season")]),
    )
    body = "".join(section(title, text, cards, wide=title in _WIDE) for title, text, cards in sections)
    title = f"{report.project}: {report.target}"
    return page(title, f"{_head(report)}{body}{_foot(report)}")


def _head(report: Report) -> str:
    ahead = f"{report.horizon / 3600:g} hours ahead" if report.horizon else "at the same moment"
    metrics = report.metrics
    tiles = [
        ("RMSE", f"{metrics.rmse:.2f} {report.unit}", f"persistence {metrics.persistence_rmse:.2f}"),
        ("MAE", f"{metrics.mae:.2f} {report.unit}", "mean size of an error"),
        ("Skill", f"{metrics.skill:.0%}", "against persistence; 100 % is perfect"),
        ("Held out", f"{metrics.n:,}", f"samples of {len(report.examination.devices)} devices"),
    ]
    if metrics.champion_rmse is not None and metrics.champion_skill is not None:
        champion = f"{metrics.champion_rmse:.2f} {report.unit}"
        tiles.insert(3, ("Champion", champion, f"skill against it {metrics.champion_skill:.0%}"))
    shown = "".join(
        f"<div class=tile><span>{escaped(name)}</span><b>{escaped(value)}</b><small>{escaped(note)}</small></div>"
        for name, value, note in tiles
    )
    good = metrics.skill > 0 and (metrics.champion_skill is None or metrics.champion_skill > 0)
    return (
        f"<header><p class=eyebrow>{escaped(report.project)} · {escaped(report.target)}, {ahead} · "
        f"{day(report.since)} to {day(report.until)}</p>"
        f"<h1 class={'good' if good else 'bad'}>{escaped(verdict(report))}</h1><div class=tiles>{shown}</div></header>"
    )


def _calibrated(report: Report) -> str:
    """Say how far the promised limits can be relied on."""
    curve = dict(report.examination.calibration)
    if not curve:
        return "Too few samples to tell."
    level = 0.8
    kept = curve.get(level, 0.0)
    word = "As promised" if abs(kept - level) <= _GOOD else "Too sure of itself" if kept < level else "Too cautious"
    return f"{word}: the limit of {level:.0%} of the earlier half's errors held {kept:.0%} of the later half's."


def _candidates(report: Report) -> str:
    ranked = sorted(report.search, key=lambda one: float("inf") if one.rmse is None else one.rmse)
    rows = [
        (
            _spelled(one.parameters) or "as they are",
            "diverged" if one.rmse is None else f"{one.rmse:.4f}",
            "-" if one.spread is None else f"{one.spread:.4f}",
        )
        for one in ranked[:_SHOWN]
    ]
    left = len(ranked) - len(rows)
    return card("Best first", grid(("Parameters", "RMSE", "± folds"), rows), f"and {left} more" if left > 0 else "")


def _table(groups: Sequence[Group], name: str) -> str:
    covered = tuple(f"in {level:.0%}" for level in COVERED)
    rivals = any(group.champion_rmse is not None for group in groups)
    titles = (name, "n", "RMSE", "MAE", "Persist.", "Skill", *(("Champ.", "Skill") if rivals else ()), *covered)
    rows = [
        (
            group.name,
            f"{group.n:,}",
            f"{group.rmse:.2f}",
            f"{group.mae:.2f}",
            _maybe(group.persistence_rmse, ".2f"),
            _maybe(group.skill, ".0%"),
            *((_maybe(group.champion_rmse, ".2f"), _maybe(group.champion_skill, ".0%")) if rivals else ()),
            *(f"{share:.0%}" for share in group.coverage),
        )
        for group in sorted(groups, key=lambda group: -group.rmse)[:_ROWS]
    ]
    left = len(groups) - len(rows)
    return card(f"By {name.lower()}", grid(titles, rows), f"and {left} more in the JSON" if left > 0 else "")


def _foot(report: Report) -> str:
    refused = ", ".join(f"{count:,} {name}" for name, count in report.rejected.items()) or "none"
    facts = {
        "Learned from": f"{report.learned:,} samples of {report.rows:,} readings; refused: {refused}",
        "Chosen": _spelled(report.parameters) or "parameters as they are",
        "Dataset": report.dataset,
        "Code": report.code,
    }
    told = "".join(f"<dt>{name}</dt><dd>{escaped(value)}</dd>" for name, value in facts.items())
    note = (
        f"Errors are in {escaped(report.unit)}. Skill is 1 - RMSE / rival's RMSE. Seasons are meteorological and go by "
        "the data's own time. “in 80 %” is the share of a group's errors within the limit that holds 80 % of all: "
        "far below it, this group is worse than the model believes."
    )
    return f"<footer><dl>{told}</dl><p>{note}</p></footer>"


def _maybe(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _spelled(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.rpartition('__')[2]} = {_number(value)}" for name, value in parameters.items())


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

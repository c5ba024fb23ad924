"""What a run found out, as one HTML file that needs nothing else: no scripts, no links, light and dark.

The page is made from its JSON alone, so that it can be made again. Whatever came from data is escaped, and the page
forbids itself to load anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

import msgspec
import numpy as np

from quietfleet.errors import DataRejected
from quietfleet.pipeline.evaluate import COVERED, Evaluation, Examination, Group, Predictor, examine
from quietfleet.pipeline.features import Floats
from quietfleet.pipeline.ingest import Dataset
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
    curves = [_card(_e(one.device), plots.trace(one.times, one.truth, one.forecast, unit)) for one in report.curves]
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
                _card("By device", plots.bars(found.devices, unit, "device")),
                _card("By season", plots.bars(found.seasons, unit, "season")),
                _card("By hour of the day, UTC", plots.hours(found.hours, unit)),
                _card("Calibration", plots.calibration(found.calibration), _calibrated(report)),
            ],
        ),
        ("The search", "", [_card("Candidates", plots.search(report.search, chosen, unit)), _candidates(report)]),
        ("In numbers", "", [_table(found.devices, "Device"), _table(found.seasons, "Season")]),
    )
    body = "".join(_section(title, text, cards) for title, text, cards in sections)
    title = f"{report.project}: {report.target}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><title>{_e(title)}</title><style>{_CSS}</style></head>\n'
        f"<body><main>{_head(report)}{body}{_foot(report)}</main></body></html>\n"
    )


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
        f"<div class=tile><span>{_e(name)}</span><b>{_e(value)}</b><small>{_e(note)}</small></div>"
        for name, value, note in tiles
    )
    good = metrics.skill > 0 and (metrics.champion_skill is None or metrics.champion_skill > 0)
    return (
        f"<header><p class=eyebrow>{_e(report.project)} · {_e(report.target)}, {ahead} · "
        f"{_day(report.since)} to {_day(report.until)}</p>"
        f"<h1 class={'good' if good else 'bad'}>{_e(verdict(report))}</h1><div class=tiles>{shown}</div></header>"
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
    return _card("Best first", _grid(("Parameters", "RMSE", "± folds"), rows), f"and {left} more" if left > 0 else "")


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
    return _card(f"By {name.lower()}", _grid(titles, rows), f"and {left} more in the JSON" if left > 0 else "")


def _foot(report: Report) -> str:
    refused = ", ".join(f"{count:,} {name}" for name, count in report.rejected.items()) or "none"
    facts = {
        "Learned from": f"{report.learned:,} samples of {report.rows:,} readings; refused: {refused}",
        "Chosen": _spelled(report.parameters) or "parameters as they are",
        "Dataset": report.dataset,
        "Code": report.code,
    }
    told = "".join(f"<dt>{name}</dt><dd>{_e(value)}</dd>" for name, value in facts.items())
    note = (
        f"Errors are in {_e(report.unit)}. Skill is 1 - RMSE / rival's RMSE. Seasons are meteorological and go by the "
        "data's own time. “in 80 %” is the share of a group's errors within the limit that holds 80 % of all errors: "
        "far below it, this group is worse than the model believes."
    )
    return f"<footer><dl>{told}</dl><p>{note}</p></footer>"


def _section(title: str, text: str, cards: Sequence[str]) -> str:
    told = f"<p>{_e(text)}</p>" if text else ""
    kind = "wide" if title in {"Measured and modelled", "In numbers"} else "two"
    return f'<section><h2>{_e(title)}</h2>{told}<div class="{kind}">{"".join(cards)}</div></section>'


def _card(title: str, inner: str, note: str = "") -> str:
    """Frame a drawing or a table; `title` and `inner` are HTML."""
    told = f"<figcaption>{_e(note)}</figcaption>" if note else ""
    return f"<figure><h3>{title}</h3>{inner}{told}</figure>"


def _grid(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{_e(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{_e(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _maybe(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _spelled(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.rpartition('__')[2]} = {_number(value)}" for name, value in parameters.items())


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _day(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%-d %B %Y")


def _e(text: str) -> str:
    return escape(text, quote=True)


_CSS: Final = """
:root{--paper:#faf9f6;--card:#fff;--ink:#23262b;--soft:#6a6f78;--line:#e3e1da;--model:#1f6f8b;--naive:#b5aa97;
--rival:#c8553d;--good:#2f7d4f;--bad:#b5452c}
@media(prefers-color-scheme:dark){:root{--paper:#15171a;--card:#1d2024;--ink:#e7e5e0;--soft:#9a9fa8;--line:#33373d;
--model:#5fb6d3;--naive:#8d8675;--rival:#ef8a6f;--good:#6cc592;--bad:#f08a72}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1080px;margin:0 auto;padding:48px 24px 64px}
.eyebrow{margin:0;color:var(--soft);font-size:.9rem}
h1{margin:.4em 0 1em;font-size:clamp(1.4rem,3.2vw,2.1rem);line-height:1.25;font-weight:650;text-wrap:balance;
border-left:5px solid var(--good);padding-left:18px}
h1.bad{border-color:var(--bad)}
h2{margin:48px 0 2px;font-size:1.25rem}
section>p{margin:0 0 14px;color:var(--soft)}
h3{margin:0 0 6px;font-size:.95rem;font-weight:600;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:14px}
.tile,figure{background:var(--card);border:1px solid var(--line);border-radius:12px}
.tile{padding:14px 18px}.tile span,.tile small{display:block;color:var(--soft);font-size:.82rem}
.tile b{font-size:1.6rem;font-weight:650;font-variant-numeric:tabular-nums}
.wide,.two{display:grid;gap:16px;margin-top:12px}
.two{grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr));align-items:start}
figure{margin:0;padding:16px 18px;min-width:0}
figcaption{margin-top:8px;color:var(--soft);font-size:.85rem}
svg{display:block;width:100%;height:auto}
svg text{font-family:system-ui,-apple-system,"Segoe UI",sans-serif!important}
.scroll{overflow-x:auto}
table{width:100%;border-collapse:collapse;font-size:.84rem;font-variant-numeric:tabular-nums}
th{font-weight:600;color:var(--soft)}
th,td{padding:5px 7px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left;max-width:240px;overflow:hidden;text-overflow:ellipsis}
tbody tr:last-child td{border:0}
footer{margin-top:48px;padding-top:18px;border-top:1px solid var(--line);color:var(--soft);font-size:.85rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;margin:0}dt{font-weight:600}
dd{margin:0;overflow-wrap:anywhere}
@media print{figure,.tile{break-inside:avoid}}
"""

"""The plots of a report, as SVG that stands inside a page: deterministic, without links, in the page's own colours.

Colours are drawn as placeholders and become the page's CSS variables, so one drawing serves light and dark.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import StringIO
from itertools import pairwise
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from quietfleet.pipeline.choices import Choice, Kind
from quietfleet.pipeline.evaluate import Group
from quietfleet.pipeline.train import Tried

_INK, _FAINT, _MODEL, _NAIVE, _RIVAL = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES: Final = {_INK: "--ink", _FAINT: "--line", _MODEL: "--model", _NAIVE: "--naive", _RIVAL: "--rival"}
_MOST_BARS: Final = 30
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
Draw = Callable[[Axes], None]


def trace(times: Sequence[float], truth: Sequence[float], forecast: Sequence[float], unit: str) -> str:
    """What one device measured, and what had been said it would."""

    def draw(axes: Axes) -> None:
        moments = [_moment(time) for time in times]
        gaps = _gaps(times)
        axes.plot(moments, _torn(truth, gaps), color=_NAIVE, linewidth=2.2, label="measured")
        axes.plot(moments, _torn(forecast, gaps), color=_MODEL, linewidth=1.1, label="model")
        _dated(axes)
        axes.set_ylabel(unit)
        _legend(axes, 2)

    return _svg(f"trace {times[0] if times else 0} {truth[:2]}", (9.2, 2.7), draw)


def marked(times: Sequence[float], values: Sequence[float], spans: Sequence[tuple[float, float]], unit: str) -> str:
    """What one device measured, with the spans in which something was said of it."""

    def draw(axes: Axes) -> None:
        moments = [_moment(time) for time in times]
        for since, until in spans:
            axes.axvspan(_moment(since), _moment(until), color=_RIVAL, alpha=0.25, linewidth=0)
            axes.axvline(_moment(since), color=_RIVAL, linewidth=1.0)
        axes.plot(moments, _torn(values, _gaps(times)), color=_MODEL, linewidth=1.0)
        _dated(axes)
        axes.set_ylabel(unit)

    return _svg(f"marked {times[0] if times else 0} {values[:2]} {unit}", (9.2, 2.4), draw)


def _moment(time: float) -> Any:
    return datetime.fromtimestamp(time, UTC)


def _dated(axes: Axes) -> None:
    locator = AutoDateLocator(tz=UTC, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
    axes.margins(x=0.01)


def bars(groups: Sequence[Group], unit: str, title: str) -> str:
    """RMSE of the model beside persistence's and the champion's, one row a group, the worst first where many."""
    shown = sorted(groups, key=lambda group: -group.rmse)[:_MOST_BARS] if len(groups) > _MOST_BARS else list(groups)

    def draw(axes: Axes) -> None:
        places = range(len(shown))
        axes.barh(places, [group.rmse for group in shown], height=0.55, color=_MODEL, label="model")
        for name, colour, mark in (("persistence", _NAIVE, "o"), ("champion", _RIVAL, "D")):
            values = [getattr(group, f"{name}_rmse") for group in shown]
            if any(value is not None for value in values):
                points = [float("nan") if value is None else value for value in values]
                axes.plot(points, places, mark, color=colour, markersize=6, label=name)
        axes.set_yticks(list(places), [_short(group.name) for group in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"RMSE, {unit}")
        _legend(axes, 3)

    return _svg(f"bars {title}", (4.5, max(2.0, 0.9 + 0.36 * len(shown))), draw)


def hours(groups: Sequence[Group], unit: str) -> str:
    """RMSE over the day."""

    def draw(axes: Axes) -> None:
        at = [int(group.name) for group in groups]
        for name, colour in (("persistence", _NAIVE), ("champion", _RIVAL), ("model", _MODEL)):
            field = "rmse" if name == "model" else f"{name}_rmse"
            values = [getattr(group, field) for group in groups]
            if any(value is not None for value in values):
                points = [float("nan") if value is None else value for value in values]
                axes.plot(at, points, color=colour, linewidth=2, label=name)
        axes.set_xticks(range(0, 25, 6), [f"{hour:02}:00" for hour in range(0, 25, 6)])
        axes.set_ylim(bottom=0)
        axes.set_ylabel(f"RMSE, {unit}")
        _legend(axes, 3)

    return _svg("hours", (4.5, 2.9), draw)


def calibration(points: Sequence[tuple[float, float]]) -> str:
    """How often the error stayed within its promised limit."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color=_NAIVE, linewidth=1.2, linestyle="--", label="perfect")
        promised, covered = [100 * point[0] for point in points], [100 * point[1] for point in points]
        axes.plot(promised, covered, color=_MODEL, linewidth=2, marker="o", markersize=3.5, label="model")
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 101)
        axes.set_xlabel("promised, % of errors")
        axes.set_ylabel("kept, %")
        _legend(axes, 2)

    return _svg("calibration", (4.5, 2.9), draw)


def search(tried: Sequence[Tried], chosen: int, unit: str) -> str:
    """Every candidate's error over the folds, best first."""
    scored = [(one.rmse, one.spread or 0.0, place == chosen) for place, one in enumerate(tried) if one.rmse is not None]

    def draw(axes: Axes) -> None:
        ranked = sorted(scored, key=lambda one: (one[0], not one[2]))
        for colour, mine, label in ((_NAIVE, False, "tried"), (_MODEL, True, "chosen")):
            points = [(rank, rmse, spread) for rank, (rmse, spread, best) in enumerate(ranked, 1) if best is mine]
            if points:
                at, values, spreads = zip(*points, strict=True)
                axes.errorbar(at, values, yerr=spreads, fmt="o", color=colour, markersize=5, capsize=3, label=label)
        axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        axes.set_xlabel("rank")
        axes.set_ylabel(f"RMSE over the folds, {unit}")
        _legend(axes, 2)

    return _svg("search", (4.5, 2.9), draw)


def gains(choices: Sequence[Choice]) -> str:
    """What each device saves by what it was given, the best first."""

    def draw(axes: Axes) -> None:
        ranked = sorted(choices, key=lambda one: (-one.gain, one.device))
        for kind, colour in ((Kind.PERSONAL, _MODEL), (Kind.PERSISTENCE, _RIVAL), (Kind.POOLED, _NAIVE)):
            points = [(rank, 100 * one.gain) for rank, one in enumerate(ranked, 1) if one.kind is kind]
            if points:
                axes.plot(*zip(*points, strict=True), "o", color=colour, markersize=4, label=kind.value)
        axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        axes.set_ylim(bottom=0)
        axes.set_xlabel("devices, by what they gain")
        axes.set_ylabel("RMSE saved, %")
        _legend(axes, 3)

    return _svg("gains", (4.5, 2.9), draw)


def _gaps(times: Sequence[float]) -> set[int]:
    """Where a line has to break, since nothing was measured before that moment."""
    steps = [later - earlier for earlier, later in pairwise(times)]
    usual = min(steps, default=0.0)
    return {place for place, step in enumerate(steps, 1) if step > 1.5 * usual}


def _torn(values: Sequence[float], gaps: set[int]) -> list[float]:
    return [float("nan") if place in gaps else value for place, value in enumerate(values)]


def _legend(axes: Axes, columns: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, handlelength=1.4)


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:12]}…"  # noqa: PLR2004 - what fits beside a bar


def _svg(salt: str, size: tuple[float, float], draw: Draw) -> str:
    """Draw; ids are salted by plot, since all plots share one page."""
    with mpl.rc_context({**mpl.rcParamsDefault, "backend": "svg", **_STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        out = StringIO()
        unnamed = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=unnamed)
    return _inlined(out.getvalue())


def _inlined(drawing: str) -> str:
    """Take off what only a file of its own needs, names and links among it."""
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"\s*<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r' xmlns(:xlink)?="[^"]*"| version="1\.1"', "", drawing)
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing.replace("xlink:href=", "href="))
    drawing = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", drawing))
    for colour, variable in _VARIABLES.items():
        drawing = drawing.replace(colour, f"var({variable})")
    return drawing.replace("<svg", '<svg role="img"', 1).strip()

"""The page about a recording that was watched: what was said of which device, and what its readings were then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from quietfleet.monitor.pace import DAY
from quietfleet.monitor.sheet import Sheet
from quietfleet.monitor.survey import Episode, Survey, told
from quietfleet.monitor.telemetry import Health
from quietfleet.monitor.verdict import Verdict
from quietfleet.pipeline import plots
from quietfleet.pipeline.page import card, day, escaped, grid, page, section

_CURVES: Final = 12
_POINTS: Final = 1500
_ROWS: Final = 200
_WORDS: Final = {
    Verdict.FINE: "sound",
    Verdict.QUARANTINE: "faulty",
    Verdict.VERIFY: "verify",
    Verdict.RETRAIN: "changed",
}


def render(name: str, sheet: Sheet, found: Survey, healths: Mapping[str, Health]) -> str:
    """Return the page, which stands alone; with how those devices do that tell of themselves."""
    sections = [
        section("What was said", "The newest first.", [card("", _episodes(found))], wide=True),
        section("Readings", "Where something was said of a channel, it is marked.", _curves(sheet, found), wide=True),
        section("Devices", "", [card("", _devices(found))], wide=True),
    ]
    if healths:
        sections.append(
            section(
                "Health",
                "What devices tell of themselves, over the last week.",
                [card("", _health(healths))],
                wide=True,
            )
        )
    return page(f"{name}: {headline(found)}", f"{_head(name, sheet, found)}{''.join(sections)}{_foot(sheet, found)}")


def headline(found: Survey) -> str:
    """Say in one sentence how it stands."""
    faulty = [device for device in found.devices if found.verdict(device) is Verdict.QUARANTINE]
    doubtful = [device for device in found.devices if found.verdict(device) is Verdict.VERIFY]
    of = f"{len(found.devices)} device{'s' * (len(found.devices) != 1)}"
    if faulty:
        return f"{len(faulty)} of {of} showed faults: {', '.join(faulty[:3])}{' …' if len(faulty) > 3 else ''}."  # noqa: PLR2004
    if doubtful:
        return f"{len(doubtful)} of {of} should be looked at: {', '.join(doubtful[:3])}."
    return f"Nothing is wrong with any of {of}."


def _when(found: Survey, time: float) -> str:
    """Spell a moment's day (UTC), and what time it was where days do not tell moments apart."""
    return day(time) + (datetime.fromtimestamp(time, UTC).strftime(", %H:%M") if found.day < DAY else "")


def _head(name: str, sheet: Sheet, found: Survey) -> str:
    faults = sum(bool(episode.device and episode.findings) for episode in found.episodes)
    moved = sum(episode.verdict is Verdict.RETRAIN for episode in found.episodes)
    tiles = (
        ("Readings", f"{sheet.rows:,}", f"one every {sheet.period:g} s"),
        ("Devices", str(len(found.devices)), found.drift_by),
        ("Faults", str(faults), "episodes of faulty data"),
        ("The world changed", str(moved), "times, for all devices together"),
    )
    shown = "".join(
        f"<div class=tile><span>{escaped(title)}</span><b>{escaped(value)}</b><small>{escaped(note)}</small></div>"
        for title, value, note in tiles
    )
    good = all(found.verdict(device) is Verdict.FINE for device in found.devices)
    return (
        f"<header><p class=eyebrow>{escaped(name)} · {_when(found, found.since)} to {_when(found, found.until)}</p>"
        f"<h1 class={'good' if good else 'bad'}>{escaped(headline(found))}</h1><div class=tiles>{shown}</div></header>"
    )


def _episodes(found: Survey) -> str:
    newest = sorted(found.episodes, key=lambda one: -one.since)[:_ROWS]
    if not newest:
        return "<p>Nothing.</p>"
    rows = [(_when(found, one.since), _when(found, one.noticed), _WORDS[one.verdict], told(one)) for one in newest]
    return grid(("Since", "Noticed", "Verdict", "What, and what to do"), rows)


def _curves(sheet: Sheet, found: Survey) -> list[str]:
    """The channels that something was said of, the most serious first; otherwise the first channel of each device."""
    wanted: dict[tuple[str, str], list[Episode]] = {}
    serious = sorted(found.episodes, key=lambda one: (one.verdict is not Verdict.QUARANTINE, not one.findings))
    for one in (one for one in serious if one.device):
        for channel in one.channels or sheet.channels[:1]:
            wanted.setdefault((one.device, channel), []).append(one)
    chosen = list(wanted) or [(device, sheet.channels[0]) for device in found.devices]
    return [_curve(sheet, device, channel, wanted.get((device, channel), [])) for device, channel in chosen[:_CURVES]]


def _curve(sheet: Sheet, device: str, channel: str, episodes: Sequence[Episode]) -> str:
    points = [(at, values[channel]) for at, values in sheet.readings[device] if channel in values]
    points = points[:: max(1, len(points) // _POINTS)]
    spans = [(one.since, max(one.until, one.since + sheet.period)) for one in episodes]
    drawing = plots.marked([at for at, _ in points], [value for _, value in points], spans, channel)
    return card(f"{escaped(device)} · {escaped(channel)}", drawing)


def _health(healths: Mapping[str, Health]) -> str:
    worst = sorted(healths.items(), key=lambda one: one[1].score)[:_ROWS]
    rows = [(device, f"{how.score:.0f}", how.words or "nothing", _lasting(how)) for device, how in worst]
    return grid(("Device", "Of 100", "What takes points off", "Lasts"), rows)


def _lasting(how: Health) -> str:
    return ", ".join(f"{one.what} {one.days:.0f} days ({one.low:.0f} to {one.high:.0f})" for one in how.longevity)


def _devices(found: Survey) -> str:
    rows = [
        (device, _WORDS[found.verdict(device)], str(len(found.of(device))), ", ".join(_channels(found.of(device))))
        for device in found.devices[:_ROWS]
    ]
    return grid(("Device", "Verdict", "Episodes", "Channels"), rows)


def _channels(episodes: Sequence[Episode]) -> list[str]:
    return list(dict.fromkeys(channel for episode in episodes for channel in episode.channels))


def _foot(sheet: Sheet, found: Survey) -> str:
    until = _when(found, found.reference_until)
    refused = ", ".join(f"{count:,} {why}" for why, count in sheet.refused.items()) or "none"
    facts = {
        "Columns": f"time: {sheet.time}; device: {sheet.apart_by}; channels: {', '.join(sheet.channels)}",
        "Left out": "; ".join(f"{name} {why}" for name, why in sheet.left_out.items()) or "none",
        "Assumed": "; ".join(sheet.notes) or "nothing",
        "Rows refused": refused,
        "Reference": f"until {until}, taken for sound; renewed when all devices drift together",
        "Pace": f"{found.day / 60:.3g} minutes of it are a day to the monitors" if found.day < DAY else "days are days",
        "Outages": f"{found.outages} periods in which nobody delivered count against no device",
    }
    told_ = "".join(f"<dt>{name}</dt><dd>{escaped(value)}</dd>" for name, value in facts.items())
    return f"<footer><dl>{told_}</dl></footer>"

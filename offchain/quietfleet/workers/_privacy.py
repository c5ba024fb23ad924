"""What a processor tells of its devices as a group, with noise; what it has cost is kept, and ends with the budget.

Every ε is entered with the answer it was spent on, in the transaction that answers: who asks the same again hears the
same again, and no average over many answers takes the noise away. A reading counts for a week, so that what is told
within any seven days adds up to the budget at most. Each device is judged by its own readings alone, at a moment that
no device sets: what others make of it would let one device move what is told of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from quietfleet.monitor import DEFAULT_RULES, Band, ChannelRules, FindingKind, Performance, band, inspect
from quietfleet.monitor.integrity import rules_with
from quietfleet.monitor.privacy import affordable, rational, tell_group
from quietfleet.monitor.telling import SignedTold, Told

if TYPE_CHECKING:
    from quietfleet.monitor import Baseline
    from quietfleet.monitor.integrity import Row
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers.messages import MonitorRun

WEEK: Final = 7 * 86_400.0
DRIFTED: Final = "drifted"
MEANINGFUL: Final = 24
"""Forecasts that were held against what came, from which on a device counts as compared."""
FULL: Final = 130
"""Readings of a week, of the 144 that there are by the hour, from which on a channel's drift is told."""
KINDS: Final = (DRIFTED, *sorted(map(str, FindingKind)))
_SCHEMA: Final = [
    """CREATE TABLE privacy (
       number INTEGER PRIMARY KEY, nonce BLOB NOT NULL UNIQUE, at REAL NOT NULL, epsilon REAL NOT NULL,
       answer BLOB NOT NULL) STRICT""",
]
_decoder = msgspec.msgpack.Decoder(SignedTold)


class Privacy:
    """Answers with noise, in the caller's transaction; off unless the settings name an ε."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._section = runtime.settings.processor.privacy
        self._rules = rules_with(runtime.settings.data.channels)
        runtime.database.migrate("privacy", _SCHEMA)

    @property
    def on(self) -> bool:
        return self._section.epsilon > 0

    def tell(
        self,
        asked: MonitorRun,
        release: int,
        week: Mapping[str, Sequence[Row]],
        baseline: Baseline | None,
        performances: Iterable[Performance],
    ) -> SignedTold:
        """Answer by the settings' ε; once the budget is spent, with nothing but that.

        `week` has each device's readings, `performances` the errors of each that forecasts were held against.
        """
        now = self._runtime.clock.now()
        kept = self._answered(asked.nonce)
        if kept is not None:
            return kept
        self._runtime.database.execute("DELETE FROM privacy WHERE at <= ?", (now - WEEK,))
        epsilon = float(rational(self._section.epsilon))
        spent = self._spent()
        key = self._runtime.keyring.present or self._runtime.identity
        if not affordable(spent, epsilon, self._section.budget):
            self._runtime.metrics.count("privacy_refused")
            return Told(asked.nonce, release, {}, spent=True).signed(key)
        left = max(0.0, self._section.budget - sum(spent) - epsilon)
        told = self._noisy(asked, release, week, baseline, performances)
        signed = msgspec.structs.replace(told, epsilon=epsilon, epsilon_left=round(left, 6)).signed(key)
        row = (asked.nonce, now, epsilon, msgspec.msgpack.encode(signed))
        self._runtime.database.execute("INSERT INTO privacy (nonce, at, epsilon, answer) VALUES (?, ?, ?, ?)", row)
        self._runtime.metrics.gauge("privacy_left", left)
        return signed

    def status(self) -> dict[str, Any]:
        """Say what was spent within a week, and of what."""
        spent = sum(self._spent())
        return {"epsilon": self._section.epsilon, "spent": round(spent, 6), "budget": self._section.budget}

    def _noisy(
        self,
        asked: MonitorRun,
        release: int,
        week: Mapping[str, Sequence[Row]],
        baseline: Baseline | None,
        performances: Iterable[Performance],
    ) -> Told:
        """Tell of the group alone: what drifted by how much is each device's own."""
        today = self._runtime.data_clock.now()
        group = tell_group(
            (wrong_with(rows, baseline, today, self._rules) for rows in week.values()),
            KINDS,
            [(one.rmse, one.persistence_rmse) for one in performances if one.n >= MEANINGFUL],
            cap=self._section.rmse_cap,
            epsilon=rational(self._section.epsilon),
            random=self._runtime.random,
        )
        return Told(
            nonce=asked.nonce,
            release=release,
            drift={},
            judged=group.devices,
            compared=MEANINGFUL * group.devices,
            rmse=group.rmse,
            persistence_rmse=group.persistence_rmse,
            faults={kind: float(count) for kind, count in group.faults.items()},
        )

    def _spent(self) -> list[float]:
        since = self._runtime.clock.now() - WEEK
        rows = self._runtime.database.execute("SELECT epsilon FROM privacy WHERE at > ?", (since,)).fetchall()
        return [epsilon for (epsilon,) in rows]

    def _answered(self, nonce: bytes) -> SignedTold | None:
        row = self._runtime.database.execute("SELECT answer FROM privacy WHERE nonce = ?", (nonce,)).fetchone()
        return _decoder.decode(row[0]) if row else None


def wrong_with(
    rows: Sequence[Row], baseline: Baseline | None, now: float, rules: Mapping[str, ChannelRules] = DEFAULT_RULES
) -> list[str]:
    """Say what is wrong with a device, by its own readings of a week up to `now` (data time) and nothing else."""
    recent = [row for row in rows if row[0] < now]
    found = [one.kind.value for one in inspect(recent, now=now, rules=rules)]
    if baseline is None:
        return found
    columns = {name: [values[name] for _, values in recent if name in values] for name in baseline.features}
    full = {name: column for name, column in columns.items() if len(column) >= FULL}
    drifted = any(band(percent) is not Band.FINE for percent in baseline.drift(full).values())
    return [*found, DRIFTED] if drifted else found

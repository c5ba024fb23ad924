"""What a new model is measured by on a processor: forecasts beside the old one's, and samples that get lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from quietfleet.errors import ModelFailed
from quietfleet.pipeline.features import Features, feature_row
from quietfleet.pipeline.runtime import Forecast, Model
from quietfleet.rollout import Device, Slots
from quietfleet.workers._runtime import Runtime

USUAL: Final = 3600  # seconds between two samples of a sensor, as long as no model here says
LONGEST: Final = 240  # samples that one message can show to be missing
_PENDING: Final = 64  # forecasts of one device that wait for what comes

History = list[tuple[float, dict[str, float]]]
Company = Iterable[History]
"""The readings of the devices at the same place, each device's in order of time."""
Asked = tuple[str, History, Company]
"""A device's pseudonym, its readings and those of others."""
Found = Forecast | Exception | None


class Trial:
    """The figures of one processor; what must last is in the slots."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._last: dict[str, float] = {}
        self._pending: dict[str, dict[int, tuple[float, float]]] = {}
        self._began: float | None = None

    def begin(self) -> None:
        """Another model is in use, or forecasts beside it, from this moment of the data's time."""
        self._began = self._runtime.data_clock.now()
        self._pending.clear()

    def forecast(self, model: Model | None, device: str, history: History, company: Company = ()) -> Forecast | None:
        """Forecast from a device's readings and those of others; None without a model, or enough of them."""
        if model is None:
            return None
        row = feature_row(model.features, history, list(neighbours(model.features, history, company)))
        return model.predict(row, device) if row is not None else None

    def forecast_each(self, model: Model | None, asked: Sequence[Asked]) -> list[Found]:
        """Forecast for several in one step; what kept a model from it stands in the place of the forecast."""
        if model is None or len(asked) == 1:
            return [self._tried(model, one) for one in asked]
        rows = [feature_row(model.features, one[1], list(neighbours(model.features, *one[1:]))) for one in asked]
        ready = [(row, one[0]) for row, one in zip(rows, asked, strict=True) if row is not None]
        try:
            made = iter(model.predict_each(ready) if ready else [])
        except Exception as error:  # noqa: BLE001 - the runtime's own exceptions share no base
            return [error if row is not None else None for row in rows]
        return [(next(made) or ModelFailed("one row of many")) if row is not None else None for row in rows]

    def _tried(self, model: Model | None, asked: Asked) -> Found:
        try:
            return self.forecast(model, *asked)
        except Exception as error:  # noqa: BLE001 - likewise
            return error

    def compare(
        self, slots: Slots, device: str, history: History, used: Forecast | None, other: Forecast | None, task: Features
    ) -> Slots:
        """Hold what both models forecast for now against what came, and keep what they forecast now."""
        at, fields = history[-1]
        pending, here = self._pending.setdefault(device, {}), task.slot(at)
        if used is not None and other is not None:
            pending[here + task.horizon] = used.value, other.value
        foretold, came = pending.get(here), fields.get(task.target)
        if foretold is not None and came is not None:
            slots = slots.comparing(foretold[0] - came, foretold[1] - came)
            del pending[here]
        for old in sorted(pending)[:-_PENDING]:
            del pending[old]
        return slots

    def sampled(self, slots: Slots, device: str, rows: History, new: int, period: int) -> Slots:
        """Count the samples that came of a device since its last, and those that should have: one a period (s)."""
        latest = max(at for at, _ in rows)
        last = self._last.get(device)
        self._last[device] = max(latest, last or latest)
        if last is None or latest <= last:
            return slots
        expected = min(LONGEST, round((latest - last) / period))
        return slots.sampled(expected, max(0, expected - new)) if expected > 0 else slots

    def silence(self, slots: Slots, period: int) -> Slots:
        """Count what is missing of devices that fell silent during a trial; once, when its time is over."""
        candidate, now = slots.candidate, self._runtime.clock.now()
        if slots.state is not Device.TRIAL or candidate is None or self._began is None:
            return slots
        if now < slots.since + candidate.gate.trial:
            return slots
        today = self._runtime.data_clock.now()
        for last in self._last.values():
            gap = min(LONGEST, int((today - max(last, self._began)) / period) - 1)
            if gap > 0 and last >= self._began - 2 * period:
                slots = slots.sampled(gap, gap)
        return slots


def neighbours(task: Features, history: History, company: Company) -> Iterator[dict[str, float]]:
    """What the others read in the period of a device's newest reading, as the trainer saw it: each one's last."""
    now = task.slot(history[-1][0]) if history else None
    for rows in company:
        yield from [fields for at, fields in rows if task.slot(at) == now][-1:]

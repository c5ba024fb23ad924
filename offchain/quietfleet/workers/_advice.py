"""What a processor answers readings with: the forecast of the model in use, and what it means for who asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from quietfleet.workers._fallback import LAST_MODEL, SAFE
from quietfleet.workers.messages import Recommendation, Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quietfleet.pipeline.runtime import Forecast
    from quietfleet.storage import TimeSeries
    from quietfleet.workers._autonomy import Autonomy
    from quietfleet.workers._devices import Devices
    from quietfleet.workers._fallback import Fallbacks
    from quietfleet.workers._model_slot import ModelSlot

HOUR: Final = 3600.0
SAFE_ADVICE: Final = "leave things as they are"


class Advice:
    """Forecasts from the week, and remembers what it said so that it can be held against what comes."""

    def __init__(
        self,
        week: TimeSeries,
        slot: ModelSlot,
        devices: Devices,
        fallbacks: Fallbacks,
        autonomy: Autonomy,
    ) -> None:
        self._week = week
        self._slot = slot
        self._devices = devices
        self._fallbacks = fallbacks
        self._autonomy = autonomy

    def advise(self, device: str, latest: float, accepted: int) -> Recommendation:
        """Answer readings of a device, of which the newest is of `latest` and `accepted` were new."""
        return self.advise_each([(device, latest, accepted)])[0]

    def advise_each(self, asked: Sequence[tuple[str, float, int]]) -> list[Recommendation]:
        """Answer several devices, their forecasts being asked for in one step."""
        told = [self._told(device, latest) for device, latest, _ in asked]
        devices = [device for device, _, _ in asked]
        forecasts = self._forecasts(devices, [history for history, _ in told])
        again = [place for place, one in enumerate(forecasts) if one is None and self._slot.compares and told[place][0]]
        for place in again:  # the neighbours' readings of this moment may be on their way
            told[place] = told[place][0][:-1], told[place][1]
        later = self._forecasts([devices[place] for place in again], [told[place][0] for place in again])
        for place, forecast in zip(again, later, strict=True):
            forecasts[place] = forecast
        return [
            self._answer(accepted, history, fallback, forecast)
            for (_, _, accepted), (history, fallback), forecast in zip(asked, told, forecasts, strict=True)
        ]

    def _told(self, device: str, latest: float) -> tuple[Rows, str]:
        """Return what a device told of late, mended where it is faulty, and what was done for that."""
        kept = self._week.window(device, latest - self._slot.reach - max(HOUR, 2 * self._slot.period), latest + 1)
        return self._fallbacks.rows(device, kept, self._slot.period or HOUR)

    def _answer(self, accepted: int, history: Rows, fallback: str, forecast: Forecast | None) -> Recommendation:
        model = self._slot.model
        if model is None or forecast is None:
            return Recommendation(accepted, SAFE_ADVICE if fallback == SAFE else self._lacks(), fallback=fallback)
        advice = model.advise(forecast, history[-1][1])
        return Recommendation(
            accepted,
            advice.advice.value,
            advice.forecast,
            advice.confidence,
            advice.horizon_h,
            self._slot.sequence,
            fallback or (LAST_MODEL if self._slot.fell_back else ""),
        )

    def _lacks(self) -> str:
        if self._slot.model is None:
            return "no model yet"
        return "not enough history yet" if self._slot.ready else "no forecast for the moment"

    def _forecasts(self, devices: Sequence[str], histories: Sequence[Rows]) -> list[Forecast | None]:
        if not devices:
            return []
        asked = [
            (self._devices.pseudonym(device), history, self._company(device, history))
            for device, history in zip(devices, histories, strict=True)
        ]
        found = self._slot.forecast_each(asked)
        return [
            forecast and self._autonomy.corrected(device, forecast, history, company)
            for device, (_, history, company), forecast in zip(devices, asked, found, strict=True)
        ]

    def _company(self, device: str, history: Rows) -> list[Rows]:
        """What the other devices here read about then; what a faulty one says is no measure for others."""
        if not history or not self._slot.compares:
            return []
        at, period = history[-1][0], self._slot.period
        others = [other for other, _ in self._devices.sound() if other != device]
        return [self._week.window(other, at - period, at + period) for other in others]

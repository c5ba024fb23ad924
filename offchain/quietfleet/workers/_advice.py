"""What a processor answers readings with: the forecast of the model in use, and what it means for who asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from quietfleet.workers._fallback import SAFE
from quietfleet.workers.messages import Recommendation, Rows

if TYPE_CHECKING:
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
        kept = self._week.window(device, latest - self._slot.reach - max(HOUR, 2 * self._slot.period), latest + 1)
        history, fallback = self._fallbacks.rows(device, kept, self._slot.period or HOUR)
        forecast = self._forecast(device, history)
        if forecast is None and self._slot.compares and history:
            history = history[:-1]  # the neighbours' readings of this moment may be on their way
            forecast = self._forecast(device, history)
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
            fallback,
        )

    def _lacks(self) -> str:
        if self._slot.model is None:
            return "no model yet"
        return "not enough history yet" if self._slot.ready else "no forecast for the moment"

    def _forecast(self, device: str, history: Rows) -> Forecast | None:
        company = self._company(device, history[-1][0]) if history and self._slot.compares else []
        forecast = self._slot.forecast(self._devices.pseudonym(device), history, company)
        return forecast and self._autonomy.corrected(device, forecast, history, company)

    def _company(self, device: str, at: float) -> list[Rows]:
        """What the other devices here read about then; what a faulty one says is no measure for others."""
        period = self._slot.period
        others = [other for other, _ in self._devices.sound() if other != device]
        return [self._week.window(other, at - period, at + period) for other in others]

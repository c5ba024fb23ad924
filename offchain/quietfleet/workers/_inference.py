"""Where a processor's models run, as its settings say: apart, unless many workers share one process."""

from __future__ import annotations

from typing import Final

from quietfleet.pipeline.inference import FIRST_PAUSE, LONGEST_PAUSE, Apart, Inference, Inline
from quietfleet.workers._retries import Retries
from quietfleet.workers._runtime import Runtime

_FORGOTTEN: Final = 600.0  # seconds after which a process that ended may come back as fast as the first time


def make_inference(runtime: Runtime) -> Inference:
    """Return what opens the models of a processor; what it starts ends with the runtime."""
    section = runtime.settings.processor
    if section.inference == "inline":
        return Inline()
    retries, now = Retries(runtime.random, FIRST_PAUSE, LONGEST_PAUSE), runtime.clock.now
    apart = Apart(section.inference_memory << 20, lambda: retries.pause(now() // _FORGOTTEN), now)
    runtime.closing.append(apart.close)
    return apart

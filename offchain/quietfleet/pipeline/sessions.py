"""Runtime sessions of one model's artefacts, opened from bytes behind the guard. numpy and onnxruntime only.

The runtime tells its maker what it runs, over HTTPS and by way of a file at home, unless it is told not to before it is
loaded: which is here, and nowhere else in this package.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quietfleet.errors import ModelRejected
from quietfleet.pipeline.onnx_guard import guard

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

Rows = npt.NDArray[np.float32]


class Sessions:
    """A model that runs in this process: one session for everybody, and those of single devices."""

    def __init__(self, default: Any, personal: Mapping[str, Any]) -> None:
        self._default = default
        self._personal = dict(personal)
        self._input = str(default.get_inputs()[0].name)

    @property
    def personal(self) -> frozenset[str]:
        """The devices that have a session of their own."""
        return frozenset(self._personal)

    def run(self, rows: Rows, device: str | None) -> Rows:
        """Forecast rows [n, features] → [n]."""
        own = self._personal.get(device) if device else None
        session, name = (self._default, self._input) if own is None else (own, own.get_inputs()[0].name)
        forecasts: Rows = session.run(None, {name: rows})[0].reshape(-1)
        return forecasts

    def run_each(self, rows: Rows, devices: Sequence[str | None]) -> tuple[Rows, list[int]]:
        """Forecast a row for each device → [n], those of one session at once, and the places of those that failed."""
        values, failed = np.zeros(len(rows), dtype=np.float32), []
        for places in self._together(devices):
            try:
                values[places] = self.run(rows[places], devices[places[0]])
            except Exception:  # noqa: BLE001 - the runtime's own exceptions share no base
                failed += [place for place in places if not self._alone(rows, devices, place, values)]
        return values, failed

    def _together(self, devices: Sequence[str | None]) -> list[list[int]]:
        """Return the places of the devices that share a session."""
        found: dict[str | None, list[int]] = {}
        for place, device in enumerate(devices):
            found.setdefault(device if device in self._personal else None, []).append(place)
        return list(found.values())

    def _alone(self, rows: Rows, devices: Sequence[str | None], place: int, values: Rows) -> bool:
        try:
            values[place] = self.run(rows[place : place + 1], devices[place])[0]
        except Exception:  # noqa: BLE001
            return False
        return True


def open_sessions(artifact: bytes, personal: Mapping[str, bytes], width: int) -> Sessions:
    """Guard artefacts, open each for rows of `width`, and have each forecast once; `ModelRejected`."""
    for each in (artifact, *personal.values()):
        guard(each)
    own = {device: open_session(each, width) for device, each in personal.items()}
    sessions = Sessions(open_session(artifact, width), own)
    _probe(sessions, width)
    return sessions


def open_session(artifact: bytes, width: int) -> Any:
    """Start a single-threaded CPU session from bytes, taking rows of `width`; a path could reach its neighbours."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own exceptions share no base
        raise ModelRejected(f"the runtime refuses it: {type(error).__name__}") from error
    _check_face(session, width)
    return session


def _check_face(session: Any, width: int) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelRejected("a model has one input and one output")
    shape = inputs[0].shape
    if inputs[0].type != "tensor(float)" or len(shape) != 2 or shape[1] != width:  # noqa: PLR2004 -- [N, F]
        raise ModelRejected(f"input {inputs[0].type} {shape} is not float32 [N, {width}]")


def _probe(sessions: Sessions, width: int) -> None:
    """Forecast once with each before anybody relies on it."""
    for device in (None, *sessions.personal):
        try:
            value = float(sessions.run(np.zeros((1, width), dtype=np.float32), device)[0])
        except Exception as error:  # the runtime's own exceptions share no base
            raise ModelRejected(f"it does not run: {type(error).__name__}") from error
        if not math.isfinite(value):
            raise ModelRejected("its forecast is not a number")

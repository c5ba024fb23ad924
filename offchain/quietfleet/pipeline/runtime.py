"""A released model on a device: verify everything, load from bytes, forecast, advise. numpy and onnxruntime only."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime

from quietfleet.crypto import keccak256
from quietfleet.errors import ModelRejected, MonitorError
from quietfleet.monitor.drift import Baseline
from quietfleet.pipeline.features import FEATURES, feature_schema_hash
from quietfleet.pipeline.onnx_guard import guard

FORMAT: Final = 1
MAXIMUM_MANIFEST_BYTES: Final = 32 * 1024
TOLERANCE_C: Final = 2.0
"""A forecast is called right when it is at most this far off."""

_WARM_C: Final = 24.0
_COOL_C: Final = 10.0
_FROST_C: Final = 1.0
_MUGGY_DEW_C: Final = 17.0
_TRUSTED: Final = 0.5


@dataclass(frozen=True, slots=True)
class Forecast:
    """Temperature at the horizon in °C, its standard error in °C, and how likely it is within `TOLERANCE_C`."""

    value: float
    sigma: float
    confidence: float
    horizon_h: int


class Advice(StrEnum):
    """What a building should do with its windows."""

    FROST = "protect from frost"
    HEAT = "keep windows shut"
    VENTILATE = "ventilate now"
    VENTILATE_LATER = "ventilate later"
    SHADE = "close and shade"
    HOLD = "change nothing"


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The answer to a reading: advice, the forecast behind it in °C, how sure, and how far ahead in hours."""

    advice: Advice
    forecast_c: float
    confidence: float
    horizon_h: int


class Model:
    """A verified model; `baseline` is what it was trained on, for the drift monitor."""

    def __init__(self, session: Any, manifest: Mapping[str, Any]) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        self.manifest = manifest
        self.baseline = Baseline.from_plain(manifest["baseline"])
        error = manifest["error"]
        self._sigma = float(error["sigma"])
        self._horizon = int(manifest["task"]["horizon_h"])
        self._confidence = float(np.interp(TOLERANCE_C, [0.0, *error["quantiles"]], [0.0, *error["levels"]]))

    def predict(self, row: npt.NDArray[np.float32]) -> Forecast:
        """Forecast from one feature row [1, features]."""
        return Forecast(float(self.predict_many(row)[0]), self._sigma, self._confidence, self._horizon)

    def predict_many(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Forecast rows [n, features] → [n] in °C."""
        forecasts: npt.NDArray[np.float32] = self._session.run(None, {self._input: rows})[0].reshape(-1)
        return forecasts


def load_model(manifest: bytes, artifact: bytes, expected_manifest_hash: bytes) -> Model:
    """Verify a release against the hash read from the chain and load it; `ModelRejected` at the first doubt."""
    plain = _verified_manifest(manifest, expected_manifest_hash)
    guard(artifact)
    try:
        _check_artifact(plain, artifact)
        model = Model(open_session(artifact), plain)
    except (KeyError, TypeError, ValueError, IndexError, MonitorError) as error:
        raise ModelRejected(f"the manifest lacks or garbles what a device needs: {error!r}") from error
    _probe(model)
    return model


def recommend(forecast: Forecast, now: Mapping[str, float]) -> Recommendation:
    """Advise on ventilation from the forecast and the present reading (°C)."""
    return Recommendation(_advice(forecast, now), round(forecast.value, 2), forecast.confidence, forecast.horizon_h)


def open_session(artifact: bytes) -> Any:
    """Start a single-threaded CPU session from bytes; a path would let the file reach its neighbours."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own exceptions share no base
        raise ModelRejected(f"the runtime refuses it: {type(error).__name__}") from error
    _check_face(session)
    return session


def _verified_manifest(manifest: bytes, expected: bytes) -> dict[str, Any]:
    if len(manifest) > MAXIMUM_MANIFEST_BYTES:
        raise ModelRejected(f"a manifest of {len(manifest)} bytes")
    if keccak256(manifest) != expected:
        raise ModelRejected("the manifest is not the one released on chain")
    try:
        plain = json.loads(manifest)
    except (ValueError, RecursionError) as error:
        raise ModelRejected("the manifest is not JSON") from error
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise ModelRejected(f"the manifest is not of format {FORMAT}")
    return plain


def _check_artifact(manifest: Mapping[str, Any], artifact: bytes) -> None:
    promised = manifest["artifact"]
    if len(artifact) != promised["size"] or hashlib.sha256(artifact).hexdigest() != promised["sha256"]:
        raise ModelRejected("the artifact is not the one in the manifest")
    if manifest["feature_schema"] != feature_schema_hash():
        raise ModelRejected("the model reads other features than this device makes")


def _check_face(session: Any) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelRejected("a model has one input and one output")
    shape = inputs[0].shape
    if inputs[0].type != "tensor(float)" or len(shape) != 2 or shape[1] != len(FEATURES):  # noqa: PLR2004 -- [N, F]
        raise ModelRejected(f"input {inputs[0].type} {shape} is not float32 [N, {len(FEATURES)}]")


def _probe(model: Model) -> None:
    """Forecast once before anybody relies on it."""
    value = model.predict(np.zeros((1, len(FEATURES)), dtype=np.float32)).value
    if not math.isfinite(value):
        raise ModelRejected("its forecast is not a number")


def _advice(forecast: Forecast, now: Mapping[str, float]) -> Advice:
    ahead = forecast.value
    present = now.get("temp", ahead)
    if forecast.confidence < _TRUSTED:
        return Advice.HOLD
    if ahead <= _FROST_C:
        return Advice.FROST
    if max(ahead, present) < _COOL_C:
        return Advice.HEAT
    if now.get("dewp", present) >= _MUGGY_DEW_C:
        return Advice.SHADE if ahead > _WARM_C else Advice.HOLD
    return _ventilation(present, ahead)


def _ventilation(present: float, ahead: float) -> Advice:
    """Let in whichever of now and later is pleasant; neither when both are hot."""
    if present > _WARM_C:
        return Advice.SHADE if ahead > _WARM_C else Advice.VENTILATE_LATER
    if present < _COOL_C:
        return Advice.VENTILATE_LATER
    return Advice.VENTILATE

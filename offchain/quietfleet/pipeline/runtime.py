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
from quietfleet.errors import ModelOver, ModelRejected, MonitorError
from quietfleet.monitor.drift import Baseline
from quietfleet.pipeline.features import Features
from quietfleet.pipeline.onnx_guard import guard

FORMAT: Final = 2
OPSETS: Final = {"ai.onnx": 17, "ai.onnx.ml": 3}
"""The newest operator sets that models here are made of."""
RUNTIMES: Final = ("1.16", "2.0")
"""The versions of onnxruntime that models made here run on: from the first, below the second."""
MAXIMUM_MANIFEST_BYTES: Final = 32 * 1024
_WARM_C: Final = 24.0
_COOL_C: Final = 10.0
_FROST_C: Final = 1.0
_MUGGY_DEW_C: Final = 17.0
_TRUSTED: Final = 0.5
_UNLIKELY: Final = 0.99
"""A reading further from its estimate than this share of errors wants an explanation."""
_HOUR: Final = 3600


@dataclass(frozen=True, slots=True)
class Forecast:
    """The target at the horizon, its standard error, and how likely it is within the task's tolerance."""

    value: float
    sigma: float
    confidence: float
    horizon_h: int


class Advice(StrEnum):
    """What a building should do with its windows, or a sensor's owner with the sensor."""

    FROST = "protect from frost"
    HEAT = "keep windows shut"
    VENTILATE = "ventilate now"
    VENTILATE_LATER = "ventilate later"
    SHADE = "close and shade"
    HOLD = "change nothing"
    CHECK = "check the sensor"


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The answer to a reading: advice, the forecast behind it, how sure, and how far ahead in hours."""

    advice: Advice
    forecast: float
    confidence: float
    horizon_h: int


class Model:
    """A verified model; `features` are what its rows are made of, `baseline` what it was trained on.

    Devices that have a model of their own are forecast with it, all others with the one for everybody.
    """

    def __init__(self, manifest: Mapping[str, Any], default: Any, personal: Mapping[str, Any] | None = None) -> None:
        self._default = default
        self._personal = dict(personal or {})
        self.manifest = manifest
        self.features = Features.from_plain(manifest["features"])
        self.baseline = Baseline.from_plain(manifest["baseline"])
        error, task = manifest["error"], manifest["task"]
        self._advises = str(task["advice"])
        self._sigma = float(error["sigma"])
        levels, quantiles = [0.0, *error["levels"]], [0.0, *error["quantiles"]]
        self._confidence = float(np.interp(float(task["tolerance"]), quantiles, levels))
        self._unlikely = float(np.interp(_UNLIKELY, levels, quantiles))

    @property
    def personal(self) -> frozenset[str]:
        """The devices that have a model of their own."""
        return frozenset(self._personal)

    def predict(self, row: npt.NDArray[np.float32], device: str | None = None) -> Forecast:
        """Forecast from one feature row [1, features], a device's by its own model if it has one."""
        horizon = self.features.horizon_seconds // _HOUR
        return Forecast(float(self.predict_many(row, device)[0]), self._sigma, self._confidence, horizon)

    def predict_many(self, rows: npt.NDArray[np.float32], device: str | None = None) -> npt.NDArray[np.float32]:
        """Forecast rows [n, features] → [n] in the target's unit."""
        session = self._personal.get(device, self._default) if device else self._default
        forecasts: npt.NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: rows})[0].reshape(-1)
        return forecasts

    def advise(self, forecast: Forecast, now: Mapping[str, float]) -> Recommendation:
        """Say what the task's advice is, from the forecast and the present reading."""
        match self._advises:
            case "ventilation":
                return recommend(forecast, now)
            case "check":
                off = abs(now.get(self.features.target, forecast.value) - forecast.value)
                advice = Advice.CHECK if off > self._unlikely else Advice.HOLD
                return Recommendation(advice, round(forecast.value, 2), forecast.confidence, forecast.horizon_h)
        return Recommendation(Advice.HOLD, round(forecast.value, 2), forecast.confidence, forecast.horizon_h)


def load_model(
    manifest: bytes,
    artifact: bytes,
    expected_manifest_hash: bytes,
    personal: Mapping[str, bytes] | None = None,
    *,
    now: float | None = None,
) -> Model:
    """Verify a release against the hash read from the chain and load it; `ModelRejected` at the first doubt.

    `personal` are the artefacts of single devices, which the manifest must name, every one and no other. With `now`
    (Unix s) a model whose time is over is not taken up (`ModelOver`); without, one that was taken up in time goes on.
    """
    plain = _verified_manifest(manifest, expected_manifest_hash)
    own = personal or {}
    for each in (artifact, *own.values()):
        guard(each)
    try:
        _check_runtime(plain["runtime"])
        _check_expiry(plain["expires_at"], now)
        width = _check_features(plain)
        _check_artifacts(plain, artifact, own)
        sessions = {device: open_session(each, width) for device, each in own.items()}
        model = Model(plain, open_session(artifact, width), sessions)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, MonitorError) as error:
        raise ModelRejected(f"the manifest lacks or garbles what a device needs: {error!r}") from error
    _probe(model, width)
    return model


def recommend(forecast: Forecast, now: Mapping[str, float]) -> Recommendation:
    """Advise on ventilation from the forecast and the present reading (°C)."""
    return Recommendation(_advice(forecast, now), round(forecast.value, 2), forecast.confidence, forecast.horizon_h)


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


def _check_features(manifest: Mapping[str, Any]) -> int:
    """Return how wide a row is."""
    features = Features.from_plain(manifest["features"])
    if manifest["feature_schema"] != features.schema_hash:
        raise ModelRejected("the features are not those the model was trained on")
    return len(features.names)


def _check_runtime(needs: Mapping[str, Any]) -> None:
    for domain, number in needs["opsets"].items():
        if not 1 <= number <= OPSETS.get(domain, 0):
            raise ModelRejected(f"this device has no operator set {number!r:.16} of {domain:.32}")
    least, below = (_version(each) for each in needs["onnxruntime"])
    if not least <= _version(onnxruntime.__version__) < below:
        raise ModelRejected(f"it does not run on onnxruntime {onnxruntime.__version__}")


def _version(text: str) -> tuple[int, ...]:
    """Major and minor: what a vendor adds behind them is no part of the order."""
    major, minor, *_ = text.split(".")
    return int(major), int(minor)


def _check_expiry(expires_at: Any, now: float | None) -> None:
    if not isinstance(expires_at, int) or isinstance(expires_at, bool):
        raise TypeError("a model has an end")
    if now is not None and now >= expires_at:
        raise ModelOver("its time is over")


def _check_artifacts(manifest: Mapping[str, Any], artifact: bytes, personal: Mapping[str, bytes]) -> None:
    promised = manifest["models"]
    if promised["personal"].keys() != personal.keys():
        raise ModelRejected("the devices with a model of their own are not those of the manifest")
    for named, each in ((promised["default"], artifact), *((promised["personal"][d], personal[d]) for d in personal)):
        if len(each) != named["size"] or hashlib.sha256(each).hexdigest() != named["sha256"]:
            raise ModelRejected("the artifact is not the one in the manifest")


def _check_face(session: Any, width: int) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelRejected("a model has one input and one output")
    shape = inputs[0].shape
    if inputs[0].type != "tensor(float)" or len(shape) != 2 or shape[1] != width:  # noqa: PLR2004 -- [N, F]
        raise ModelRejected(f"input {inputs[0].type} {shape} is not float32 [N, {width}]")


def _probe(model: Model, width: int) -> None:
    """Forecast once with each before anybody relies on it."""
    for device in (None, *model.personal):
        try:
            value = model.predict(np.zeros((1, width), dtype=np.float32), device).value
        except Exception as error:  # the runtime's own exceptions share no base
            raise ModelRejected(f"it does not run: {type(error).__name__}") from error
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

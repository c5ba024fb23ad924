"""A released model on a device: verify everything, forecast, advise.

The sessions of a model are in a `Runner`: in this process (`sessions`) or in another (`inference`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.metadata import version
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from quietfleet.crypto import keccak256
from quietfleet.errors import ModelOver, ModelRejected, MonitorError
from quietfleet.monitor.drift import Baseline
from quietfleet.pipeline.features import Features
from quietfleet.pipeline.head import Autonomy
from quietfleet.pipeline.onnx_guard import MAXIMUM_BYTES

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


Rows = npt.NDArray[np.float32]


class Runner(Protocol):
    """Where a model's sessions are: of one for everybody, and of those of single devices, `personal`."""

    @property
    def personal(self) -> frozenset[str]:
        """The devices that have a model of their own."""

    def run(self, rows: Rows, device: str | None) -> Rows:
        """Forecast rows [n, features] → [n]; `NoForecast` when there is none to be had now."""

    def run_each(self, rows: Rows, devices: Sequence[str | None]) -> tuple[Rows, list[int]]:
        """Forecast a row for each device → [n], and the places of those that failed; `NoForecast` as `run`."""


Opener = Callable[[bytes, Mapping[str, bytes], int], Runner]
"""Makes a runner of an artefact, those of single devices, and how wide their rows are; `ModelRejected`."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The target at the horizon, its standard error, and how likely it is within the task's tolerance."""

    value: float
    sigma: float
    confidence: float
    horizon_h: int

    def moved(self, shift: float) -> Forecast:
        """Return the same with another value, so far from this one."""
        return replace(self, value=self.value + shift)


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

    def __init__(self, manifest: Mapping[str, Any], runner: Runner) -> None:
        self.runner = runner
        self.manifest = manifest
        self.features = Features.from_plain(manifest["features"])
        self.baseline = Baseline.from_plain(manifest["baseline"])
        self.autonomy = Autonomy.from_plain(manifest["autonomy"]) if "autonomy" in manifest else None
        error, task = manifest["error"], manifest["task"]
        self._advises = str(task["advice"])
        self._sigma = float(error["sigma"])
        levels, quantiles = [0.0, *error["levels"]], [0.0, *error["quantiles"]]
        self._confidence = float(np.interp(float(task["tolerance"]), quantiles, levels))
        self._unlikely = float(np.interp(_UNLIKELY, levels, quantiles))

    @property
    def personal(self) -> frozenset[str]:
        """The devices that have a model of their own."""
        return self.runner.personal

    def predict(self, row: Rows, device: str | None = None) -> Forecast:
        """Forecast from one feature row [1, features], a device's by its own model if it has one."""
        return self._forecast(float(self.predict_many(row, device)[0]))

    def predict_each(self, asked: Sequence[tuple[Rows, str]]) -> list[Forecast | None]:
        """Forecast from one feature row [1, features] of each device, all in one step; None where the model failed.

        The values are those of `predict`, but for float32's rounding.
        """
        rows, devices = [row for row, _ in asked], [device for _, device in asked]
        values, failed = self.runner.run_each(np.concatenate(rows), devices)
        return [None if place in failed else self._forecast(float(value)) for place, value in enumerate(values)]

    def _forecast(self, value: float) -> Forecast:
        return Forecast(value, self._sigma, self._confidence, self.features.horizon_seconds // _HOUR)

    def predict_many(self, rows: Rows, device: str | None = None) -> Rows:
        """Forecast rows [n, features] → [n] in the target's unit."""
        return self.runner.run(rows, device)

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
    opener: Opener | None = None,
) -> Model:
    """Verify a release against the hash read from the chain and load it; `ModelRejected` at the first doubt.

    `personal` are the artefacts of single devices, which the manifest must name, every one and no other. With `now`
    (Unix s) a model whose time is over is not taken up (`ModelOver`); without, one that was taken up in time goes on.
    `opener` says where its sessions are; by default in this process.
    """
    plain, width = check_manifest(manifest, expected_manifest_hash, now=now)
    own = personal or {}
    with _as_rejected():
        _check_artifacts(plain, artifact, own)
    runner = (opener or _here)(artifact, own, width)
    with _as_rejected():
        return Model(plain, runner)


def _here(artifact: bytes, personal: Mapping[str, bytes], width: int) -> Runner:
    from quietfleet.pipeline.sessions import open_sessions  # noqa: PLC0415 - the runtime takes 20 MB

    return open_sessions(artifact, personal, width)


def check_manifest(manifest: bytes, expected: bytes, *, now: float | None = None) -> tuple[dict[str, Any], int]:
    """Return a released manifest, and how wide its rows are, when this device can run what it promises.

    It takes no artefact, so that none is fetched in vain. Raises `ModelRejected`, or `ModelOver` as `load_model` does.
    """
    plain = _verified_manifest(manifest, expected)
    with _as_rejected():
        _check_runtime(plain["runtime"])
        _check_expiry(plain["expires_at"], now)
        _check_sizes(plain["models"])
        return plain, _check_features(plain)


@contextmanager
def _as_rejected() -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, MonitorError) as error:
        raise ModelRejected(f"the manifest lacks or garbles what a device needs: {error!r}") from error


def recommend(forecast: Forecast, now: Mapping[str, float]) -> Recommendation:
    """Advise on ventilation from the forecast and the present reading (°C)."""
    return Recommendation(_advice(forecast, now), round(forecast.value, 2), forecast.confidence, forecast.horizon_h)


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
    ours = version("onnxruntime")
    if not least <= _version(ours) < below:
        raise ModelRejected(f"it does not run on onnxruntime {ours}")


def _version(text: str) -> tuple[int, ...]:
    """Major and minor: what a vendor adds behind them is no part of the order."""
    major, minor, *_ = text.split(".")
    return int(major), int(minor)


def _check_expiry(expires_at: Any, now: float | None) -> None:
    if not isinstance(expires_at, int) or isinstance(expires_at, bool):
        raise TypeError("a model has an end")
    if now is not None and now >= expires_at:
        raise ModelOver("its time is over")


def _check_sizes(promised: Mapping[str, Any]) -> None:
    largest = max(one["size"] for one in (promised["default"], *promised["personal"].values()))
    if largest > MAXIMUM_BYTES:
        raise ModelRejected(f"an artefact of {largest} bytes, at most {MAXIMUM_BYTES} are allowed")


def _check_artifacts(manifest: Mapping[str, Any], artifact: bytes, personal: Mapping[str, bytes]) -> None:
    promised = manifest["models"]
    if promised["personal"].keys() != personal.keys():
        raise ModelRejected("the devices with a model of their own are not those of the manifest")
    for named, each in ((promised["default"], artifact), *((promised["personal"][d], personal[d]) for d in personal)):
        if len(each) != named["size"] or hashlib.sha256(each).hexdigest() != named["sha256"]:
            raise ModelRejected("the artifact is not the one in the manifest")


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

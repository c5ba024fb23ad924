"""From a fitted pipeline to what devices accept: ONNX bytes and a manifest that pins everything about them.

Packaging fails rather than ships: when ONNX and scikit-learn disagree on the evaluation days, when the graph
holds an unknown operator, when it is too large for the gossip network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import numpy as np
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType

import quietfleet
from quietfleet.crypto import keccak256
from quietfleet.errors import ModelRejected, PackagingError
from quietfleet.monitor.drift import Baseline
from quietfleet.monitor.integrity import DEFAULT_RULES
from quietfleet.pipeline.evaluate import LEVELS, Evaluation
from quietfleet.pipeline.features import FEATURES, HORIZON_HOURS, TARGET, feature_schema_hash
from quietfleet.pipeline.ingest import Dataset
from quietfleet.pipeline.onnx_guard import guard
from quietfleet.pipeline.runtime import FORMAT, open_session
from quietfleet.pipeline.train import Samples, Trained

PARITY_TOLERANCE_C: Final = 1e-3
_OPSETS: Final = {"": 17, "ai.onnx.ml": 3}


@dataclass(frozen=True, slots=True)
class Package:
    """What is published: canonical manifest bytes, ONNX bytes, and the hash that goes on chain (keccak, 32 bytes)."""

    manifest: bytes
    artifact: bytes

    @property
    def manifest_hash(self) -> bytes:
        """The name of this release on chain."""
        return keccak256(self.manifest)


def package(
    trained: Trained,
    evaluation: Evaluation,
    held_out: Samples,
    dataset: Dataset,
    *,
    created_at: float,
    parent: int | None,
    tolerance: float = PARITY_TOLERANCE_C,
) -> Package:
    """Convert, check and describe a model; `PackagingError` says what a device would have choked on.

    `parent` is the release sequence this model means to replace.
    """
    artifact = to_onnx(trained.model)
    parity = check_parity(trained.model, artifact, held_out, tolerance=tolerance)
    baseline = Baseline.fit(dataset.columns, floors=_resolutions(dataset)).to_plain()
    return Package(
        canonical(
            {
                "format": FORMAT,
                "artifact": {"sha256": _sha256(artifact), "size": len(artifact), "type": "onnx"},
                "task": {"target": TARGET, "horizon_h": HORIZON_HOURS, "features": list(FEATURES)},
                "feature_schema": feature_schema_hash(),
                "baseline": baseline,
                "baseline_hash": _sha256(canonical(baseline)),
                "dataset": {"id": dataset.id, **_veiled(dataset.lineage)},
                "code": code_version(),
                "training": {**trained.parameters, "search_rmse": round(trained.search_rmse, 5)},
                "metrics": evaluation.to_plain(),
                "error": {
                    "sigma": evaluation.rmse,
                    "levels": list(LEVELS),
                    "quantiles": list(evaluation.error_quantiles),
                },
                "parity_c": parity,
                "parent": parent,
                "created_at": int(created_at),
            }
        ),
        artifact,
    )


def canonical(value: Any) -> bytes:
    """Write JSON the one way that is hashed: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def to_onnx(model: Any) -> bytes:
    """Convert a fitted scikit-learn pipeline to ONNX with float32 input [N, features] and apply the guard."""
    inputs = [("features", FloatTensorType([None, len(FEATURES)]))]
    try:
        graph = convert_sklearn(model, name="quietfleet", initial_types=inputs, target_opset=_OPSETS)
    except Exception as error:  # the converter raises whatever its parts raise
        raise PackagingError(f"no ONNX form: {error!r}") from error
    artifact: bytes = graph.SerializeToString()
    try:
        guard(artifact)
    except ModelRejected as error:
        raise PackagingError(str(error)) from error
    return artifact


def check_parity(model: Any, artifact: bytes, held_out: Samples, *, tolerance: float) -> float:
    """Return the largest |ONNX - scikit-learn| on the evaluation days, in °C; `PackagingError` above `tolerance`."""
    session = open_session(artifact)
    shipped = np.asarray(session.run(None, {session.get_inputs()[0].name: held_out.rows})[0]).ravel()
    difference = float(np.max(np.abs(shipped - model.predict(held_out.rows))))
    if not difference <= tolerance:
        raise PackagingError(f"ONNX and scikit-learn differ by {difference} °C, at most {tolerance} is allowed")
    return round(difference, 8)


def code_version() -> str:
    """Name the code that trains: the package's version and a hash of the pipeline's sources."""
    digest = hashlib.sha256()
    sources = [entry for entry in files("quietfleet.pipeline").iterdir() if entry.name.endswith(".py")]
    for source in sorted(sources, key=lambda entry: entry.name):
        digest.update(hashlib.sha256(source.name.encode() + b"\0" + source.read_bytes()).digest())
    return f"{quietfleet.__version__}+{digest.hexdigest()[:16]}"


def _veiled(lineage: Mapping[str, Any]) -> dict[str, Any]:
    """Tell how many devices a dataset had, not which: a manifest reaches the whole fleet."""
    return {**lineage, "devices": len(lineage["devices"])}


def _resolutions(dataset: Dataset) -> dict[str, float]:
    return {name: DEFAULT_RULES[name].resolution for name in dataset.columns}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

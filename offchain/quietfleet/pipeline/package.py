"""From a fitted pipeline to what devices accept: ONNX bytes and a manifest that pins everything about them.

Packaging fails rather than ships: when ONNX and scikit-learn disagree on the evaluation days, when the graph
holds an unknown operator, when it is too large for the gossip network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType

from quietfleet.crypto import keccak256
from quietfleet.errors import ModelRejected, PackagingError
from quietfleet.monitor.drift import Baseline
from quietfleet.pipeline.evaluate import LEVELS, Evaluation
from quietfleet.pipeline.ingest import Dataset
from quietfleet.pipeline.onnx_guard import guard
from quietfleet.pipeline.project import Project
from quietfleet.pipeline.runtime import FORMAT, OPSETS, RUNTIMES
from quietfleet.pipeline.sessions import open_session
from quietfleet.pipeline.train import Samples, Trained

PARITY_TOLERANCE: Final = 1e-3
_DAY: Final = 86_400
_OPSETS: Final = {"" if domain == "ai.onnx" else domain: number for domain, number in OPSETS.items()}


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
    project: Project,
    trained: Trained,
    evaluation: Evaluation,
    held_out: Samples,
    dataset: Dataset,
    *,
    created_at: float,
    parent: int | None,
    tolerance: float = PARITY_TOLERANCE,
) -> Package:
    """Convert, check and describe a model; `PackagingError` says what a device would have choked on.

    `parent` is the release sequence this model means to replace. `project.valid_days` after `created_at` (Unix s)
    no device takes it up any more.
    """
    artifact = to_onnx(trained.model, len(project.features.names))
    parity = check_parity(trained.model, artifact, held_out, tolerance=tolerance)
    baseline = Baseline.fit(dataset.columns, floors=_resolutions(project)).to_plain()
    return Package(
        canonical(
            {
                "format": FORMAT,
                "models": {"default": {"sha256": _sha256(artifact), "size": len(artifact)}, "personal": {}},
                "task": {
                    "name": project.name,
                    "unit": project.unit,
                    "tolerance": project.tolerance,
                    "advice": project.advice.value,
                },
                **({"autonomy": project.autonomy.to_plain()} if project.autonomy else {}),
                "features": project.features.to_plain(),
                "feature_schema": project.features.schema_hash,
                "baseline": baseline,
                "baseline_hash": _sha256(canonical(baseline)),
                "dataset": {"id": dataset.id, **_veiled(dataset.lineage)},
                "code": project.code,
                "training": {"parameters": trained.parameters, "search_rmse": round(trained.search_rmse, 5)},
                "metrics": evaluation.to_plain(),
                "error": {
                    "sigma": evaluation.rmse,
                    "levels": list(LEVELS),
                    "quantiles": list(evaluation.error_quantiles),
                },
                "parity": parity,
                "runtime": {"opsets": OPSETS, "onnxruntime": list(RUNTIMES)},
                "parent": parent,
                "expires_at": int(created_at + project.valid_days * _DAY),
                "created_at": int(created_at),
            }
        ),
        artifact,
    )


def canonical(value: Any) -> bytes:
    """Write JSON the one way that is hashed: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def to_onnx(model: Any, width: int) -> bytes:
    """Convert a fitted scikit-learn pipeline to ONNX with float32 input [N, width] and apply the guard."""
    inputs = [("features", FloatTensorType([None, width]))]
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
    """Return the largest |ONNX - scikit-learn| on the evaluation days; `PackagingError` above `tolerance`."""
    session = open_session(artifact, held_out.rows.shape[1])
    shipped = np.asarray(session.run(None, {session.get_inputs()[0].name: held_out.rows})[0]).ravel()
    difference = float(np.max(np.abs(shipped - np.asarray(model.predict(held_out.rows)).ravel())))
    if not difference <= tolerance:
        raise PackagingError(f"ONNX and scikit-learn differ by {difference}, at most {tolerance} is allowed")
    return round(difference, 8)


def _veiled(lineage: Mapping[str, Any]) -> dict[str, Any]:
    """Tell how many devices a dataset had, not which: a manifest reaches the whole fleet."""
    return {**lineage, "devices": len(lineage["devices"])}


def _resolutions(project: Project) -> dict[str, float]:
    return {name: channel.resolution for name, channel in project.schema.items()}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

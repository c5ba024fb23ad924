"""A registered model in MLflow's format: a folder with `MLmodel`, for its `python_function` and `onnx` flavours.

Written from MLflow's description of the format (docs, "MLflow Models"); MLflow itself is not needed for it. The model
takes feature rows: how these are made of readings stands in the release's own manifest, which lies beside it.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Final

from quietfleet.crypto import keccak256
from quietfleet.errors import RegistryError
from quietfleet.pipeline.model_folder import new_folder
from quietfleet.pipeline.registry_tables import DEFAULT, ModelVersion
from quietfleet.pipeline.runtime import RUNTIMES, load_model
from quietfleet.pipeline.sessions import open_session

_DATA: Final = "model.onnx"
_CONDA: Final = "conda.yaml"
_PYTHON: Final = "python_env.yaml"
_REQUIREMENTS: Final = ("mlflow>=2.9", "onnx", "numpy", f"onnxruntime>={RUNTIMES[0]},<{RUNTIMES[1]}")


def write_mlflow(model: ModelVersion, folder: Path, label: str) -> None:
    """Write the artefact with this label to a folder that is not there yet; `RegistryError` when there is none."""
    artefact = model.artifacts.get(label)
    if artefact is None:
        raise RegistryError(f"{model.name} version {model.version} has no model of {label!r:.80}")
    python = platform.python_version()
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": list(_REQUIREMENTS)}],
    }
    environment = {
        "python": python,
        "build_dependencies": ["pip", "setuptools", "wheel"],
        "dependencies": ["-r requirements.txt"],
    }
    with new_folder(folder) as place:
        (place / _DATA).write_bytes(artefact)
        (place / "manifest.json").write_bytes(model.manifest)
        (place / "requirements.txt").write_text("\n".join(_REQUIREMENTS) + "\n")
        (place / _CONDA).write_text(to_yaml(conda))
        (place / _PYTHON).write_text(to_yaml(environment))
        (place / "MLmodel").write_text(to_yaml(_described(model, artefact, python)))


def _described(model: ModelVersion, artefact: bytes, python: str) -> dict[str, Any]:
    task, features = json.loads(model.manifest)["task"], _features(model)
    return {
        "flavors": {
            "onnx": {
                "code": None,
                "data": _DATA,
                "onnx_session_options": None,
                "onnx_version": installed("onnx"),
                "providers": ["CPUExecutionProvider"],
            },
            "python_function": {
                "data": _DATA,
                "env": {"conda": _CONDA, "virtualenv": _PYTHON},
                "loader_module": "mlflow.onnx",
                "python_version": python,
            },
        },
        "metadata": {
            "quietfleet": {
                "name": model.name,
                "version": model.version,
                "on_chain": "0x" + keccak256(model.manifest).hex(),
                "task": task,
                "features": features,
                **model.facts.told(),
            }
        },
        "mlflow_version": "2.9.0",
        "model_size_bytes": len(artefact),
        "model_uuid": hashlib.sha256(model.manifest + artefact).hexdigest()[:32],
        "signature": _signature(artefact, len(features)),
        "utc_time_created": datetime.fromtimestamp(model.at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }


def _features(model: ModelVersion) -> list[str]:
    """The columns of a row, in order, once the model passed every check of a device."""
    personal = {label: data for label, data in model.artifacts.items() if label != DEFAULT}
    return list(load_model(model.manifest, model.artifact, keccak256(model.manifest), personal).features.names)


def _signature(artefact: bytes, width: int) -> dict[str, Any]:
    """What goes in and out, by the graph's own names."""
    session = open_session(artefact, width)
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    return {"inputs": _tensor(taken.name, [-1, width]), "outputs": _tensor(given.name, [-1, 1]), "params": None}


def _tensor(name: str, shape: list[int]) -> str:
    return json.dumps([{"name": name, "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": shape}}])


def to_yaml(value: Mapping[str, Any]) -> str:
    """Write a mapping as YAML: blocks, and every scalar as JSON, which YAML takes as it is."""
    return "\n".join(_block(value, "")) + "\n"


def _block(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            if each and isinstance(each, Mapping | list | tuple):
                yield f"{indent}{key}:"
                yield from _block(each, indent + "  " if isinstance(each, Mapping) else indent)
            else:
                yield f"{indent}{key}: {json.dumps(each)}"
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for each in value:
            first, *rest = _block(each, "")
            yield f"{indent}- {first}"
            yield from (f"{indent}  {line}" for line in rest)
    else:
        yield f"{indent}{json.dumps(value)}"

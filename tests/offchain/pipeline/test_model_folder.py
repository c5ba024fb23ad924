"""Models that leave the registry and come back: as files for another gateway, and in the format that MLflow reads."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from quietfleet.crypto import keccak256
from quietfleet.errors import DiskFull, ModelRejected, RegistryError
from quietfleet.pipeline.mlflow_folder import to_yaml, write_mlflow
from quietfleet.pipeline.model_folder import read_model, write_model
from quietfleet.pipeline.package import canonical
from quietfleet.pipeline.registry_tables import Facts, ModelVersion
from quietfleet.pipeline.runtime import load_model

NOW = 1_400_000_000.0
MLFLOW = Path(__file__).parents[3] / ".venv-mlflow" / "bin" / "python"
READ = """
import json, sys
import mlflow, numpy as np
from mlflow.models import Model
folder, rows, store = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
described = Model.load(folder)
model = mlflow.pyfunc.load_model(folder)
(name,) = [one.name for one in model.metadata.signature.inputs.inputs]
(given,) = model.predict({name: np.array(rows, dtype=np.float32)}).values()
mlflow.set_tracking_uri(store)
mlflow.set_registry_uri(store)
client = mlflow.MlflowClient()
client.create_registered_model("weather")
kept = client.create_model_version("weather", source="file://" + folder)
again = mlflow.onnx.load_model(folder)
print(json.dumps({
    "given": np.asarray(given).ravel().tolist(),
    "uuid": described.model_uuid,
    "flavors": sorted(described.flavors),
    "metadata": described.metadata,
    "version": kept.version,
    "graph": again.graph.name,
}))
"""


@pytest.fixture(scope="module")
def model(candidate):
    """A registered version with a model of one device beside the one for everybody."""
    own = {"leaf-1": candidate.artifact}
    plain = json.loads(candidate.manifest)
    named = {"sha256": hashlib.sha256(candidate.artifact).hexdigest(), "size": len(candidate.artifact)}
    plain["models"]["personal"] = {"leaf-1": named}
    manifest = canonical(plain)
    facts = Facts.of(manifest, "0123456789abcdef")
    return ModelVersion("weather", 3, manifest, {"default": candidate.artifact, **own}, NOW, facts)


def test_read__what_was_written__is_the_same_to_the_byte(model, tmp_path):
    write_model(model, tmp_path / "out")
    assert read_model(tmp_path / "out", now=NOW) == (model.manifest, dict(model.artifacts))


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "personal/leaf-1.onnx"])
def test_read__a_file_was_changed_or_is_gone__is_refused(model, tmp_path, name):
    write_model(model, tmp_path / "out")
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelRejected):
        read_model(tmp_path / "out", now=NOW)
    path.unlink()
    with pytest.raises(RegistryError, match=name):
        read_model(tmp_path / "out", now=NOW)


def test_read__its_time_is_over__is_refused(model, tmp_path):
    write_model(model, tmp_path / "out")
    with pytest.raises(ModelRejected, match="time"):
        read_model(tmp_path / "out", now=NOW + 10 * 365 * 86_400)


def test_write__disk_full__leaves_nothing_behind(model, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_text", full)
        with pytest.raises(DiskFull):
            write_mlflow(model, tmp_path / "out", "default")
    assert list(tmp_path.iterdir()) == []


def test_write__no_such_device__says_so(model, tmp_path):
    with pytest.raises(RegistryError, match="no model of 'root'"):
        write_mlflow(model, tmp_path / "out", "root")


def test_yaml__nested_blocks__one_line_a_scalar():
    written = to_yaml({"a": {"b": None, "c": "x: y"}, "d": ["p", {"pip": ["q>=1"]}], "e": [], "f": {}})
    assert written == 'a:\n  b: null\n  c: "x: y"\nd:\n- "p"\n- pip:\n  - "q>=1"\ne: []\nf: {}\n'


def test_mlflow__folder_written_twice__is_the_same(model, tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        write_mlflow(model, folder, "default")
    one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert one == two
    assert sorted(one) == [
        "MLmodel",
        "conda.yaml",
        "manifest.json",
        "model.onnx",
        "python_env.yaml",
        "requirements.txt",
    ]


def test_mlflow__the_real_one_reads_the_folder__same_forecasts_as_ours(model, tmp_path):
    if not MLFLOW.exists():
        pytest.skip("MLflow is not installed: run `tools/mlflow`")
    write_mlflow(model, tmp_path / "out", "leaf-1")
    ours = load_model(model.manifest, model.artifact, keccak256(model.manifest), {"leaf-1": model.artifacts["leaf-1"]})
    rows = np.linspace(-5, 30, 4 * len(ours.features.names), dtype=np.float32).reshape(4, -1)
    words = [str(tmp_path / "out"), json.dumps(rows.tolist()), f"sqlite:///{tmp_path / 'mlflow.db'}"]
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [MLFLOW, "-c", READ, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["given"] == pytest.approx(ours.predict_many(rows, "leaf-1").tolist(), abs=1e-5)
    assert (found["flavors"], found["graph"]) == (["onnx", "python_function"], "quietfleet")
    assert str(found["version"]) == "1"
    told = found["metadata"]["quietfleet"]
    assert told["on_chain"] == "0x" + keccak256(model.manifest).hex()
    assert (told["features"], told["run"]) == (list(ours.features.names), "0123456789abcdef")

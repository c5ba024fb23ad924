import hashlib
import json

import numpy as np
import onnx
import pytest
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor

from quietfleet.crypto import keccak256
from quietfleet.errors import PackagingError
from quietfleet.monitor import Baseline
from quietfleet.pipeline.features import Features
from quietfleet.pipeline.onnx_guard import guard
from quietfleet.pipeline.package import canonical, check_parity, to_onnx
from quietfleet.pipeline.run import run_pipeline
from quietfleet.pipeline.train import samples, split, train


@pytest.fixture(scope="module")
def manifest(candidate):
    return json.loads(candidate.manifest)


@pytest.fixture(scope="module")
def halves(january, forecast):
    return split(samples(january, forecast.features), forecast)


def test_manifest__pins_the_artifact_and_everything_it_came_from(candidate, manifest, january, forecast):
    sha256 = hashlib.sha256(candidate.artifact).hexdigest()
    assert manifest["models"] == {"default": {"sha256": sha256, "size": len(candidate.artifact)}, "personal": {}}
    assert manifest["feature_schema"] == forecast.features.schema_hash
    assert Features.from_plain(manifest["features"]) == forecast.features
    assert manifest["dataset"]["id"] == january.id
    assert manifest["baseline_hash"] == hashlib.sha256(canonical(manifest["baseline"])).hexdigest()
    assert manifest["code"] == forecast.code
    assert manifest["metrics"]["rmse"] == candidate.evaluation.rmse
    assert manifest["created_at"] == 1_400_000_000


def test_manifest__canonical__has_one_spelling_and_its_keccak_is_the_name(candidate, manifest):
    assert canonical(manifest) == candidate.manifest
    assert candidate.manifest_hash == keccak256(candidate.manifest)
    assert candidate.report["manifest_hash"] == "0x" + candidate.manifest_hash.hex()


def test_manifest__goes_to_the_whole_fleet__names_no_device(candidate, manifest):
    assert manifest["dataset"]["devices"] == 3
    assert b"EWR" not in candidate.manifest


def test_manifest__baseline__is_the_training_data(manifest, january):
    drift = Baseline.from_plain(manifest["baseline"]).drift(january.columns)
    assert set(drift) == {"temp", "dewp", "humid", "wind_speed"}
    assert max(drift.values()) < 3


def test_sizes__of_a_release__fit_the_gossip_network(candidate):
    assert len(candidate.artifact) < 2_000
    assert len(candidate.manifest) < 8_000


def test_run__same_readings_twice__is_the_same_to_the_bit(readings, candidate, forecast):
    again = run_pipeline(reversed(readings((1, 1), (2, 1))), forecast, seed=1, now=1_400_000_000.0)
    assert again.manifest == candidate.manifest
    assert again.artifact == candidate.artifact


def test_parity__same_model__is_far_below_the_gate(halves, manifest, forecast):
    learning, held_out = halves
    model = train(learning, forecast, seed=1).model
    assert check_parity(model, to_onnx(model, 12), held_out, tolerance=1e-3) < 1e-4
    assert manifest["parity"] < 1e-4


def test_parity__another_models_artifact__fails_packaging(halves, forecast):
    learning, held_out = halves
    model = train(learning, forecast, seed=1).model
    other = Ridge().fit(learning.rows, learning.targets + 1.0)
    with pytest.raises(PackagingError, match="differ"):
        check_parity(model, to_onnx(other, 12), held_out, tolerance=1e-3)


def test_parity__model_without_a_number__fails_packaging(halves):
    learning, held_out = halves
    model = Ridge().fit(learning.rows, learning.targets)
    artifact = to_onnx(model, 12)
    model.coef_ = np.full_like(model.coef_, np.nan)
    with pytest.raises(PackagingError):
        check_parity(model, artifact, held_out, tolerance=1e-3)


def test_to_onnx__operator_devices_refuse__fails_packaging(halves):
    learning, _ = halves
    network = MLPRegressor(hidden_layer_sizes=(2,), max_iter=5, random_state=1).fit(learning.rows, learning.targets)
    with pytest.raises(PackagingError, match="not allowed"):
        to_onnx(network, 12)


def test_to_onnx__boosted_trees__pass_guard_and_parity(halves):
    learning, held_out = halves
    trees = GradientBoostingRegressor(n_estimators=30, random_state=1).fit(learning.rows, learning.targets)
    artifact = to_onnx(trees, 12)
    assert ("ai.onnx.ml", "TreeEnsembleRegressor") in guard(artifact)
    assert check_parity(trees, artifact, held_out, tolerance=1e-3) < 1e-4


def test_to_onnx__nothing_the_converter_knows__fails_packaging():
    with pytest.raises(PackagingError, match="no ONNX form"):
        to_onnx(object(), 12)


def test_canonical__not_a_number__is_refused():
    with pytest.raises(ValueError):
        canonical({"rmse": float("nan")})


def test_features__of_the_artifact__are_static(candidate):
    shape = onnx.load_from_string(candidate.artifact).graph.input[0].type.tensor_type.shape
    assert shape.dim[1].dim_value == 12

import hashlib
import json
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quietfleet.crypto import keccak256
from quietfleet.errors import ModelRejected
from quietfleet.pipeline.features import feature_row
from quietfleet.pipeline.package import canonical
from quietfleet.pipeline.runtime import Advice, Forecast, load_model, recommend


@pytest.fixture
def model(candidate):
    return load_model(candidate.manifest, candidate.artifact, candidate.manifest_hash)


@pytest.fixture
def released(candidate):
    """Re-issue the candidate with a changed manifest and artifact, correctly hashed."""

    def release(change=None, artifact=candidate.artifact):
        manifest = json.loads(candidate.manifest)
        manifest["models"]["default"] = {"sha256": hashlib.sha256(artifact).hexdigest(), "size": len(artifact)}
        if change:
            change(manifest)
        data = canonical(manifest)
        return data, artifact, keccak256(data)

    return release


def onnx_model(inputs=("x",), width=12, kind=TensorProto.FLOAT, outputs=("y",)):
    infos = [helper.make_tensor_value_info(name, kind, [None, width]) for name in inputs]
    outs = [helper.make_tensor_value_info(name, kind, [None, width]) for name in outputs]
    nodes = [helper.make_node("Identity", [inputs[0]], [name]) for name in outputs]
    opset = [helper.make_opsetid("", 17)]
    made = helper.make_model(helper.make_graph(nodes, "g", infos, outs), opset_imports=opset, ir_version=8)
    return made.SerializeToString()


def test_load__released_model__forecasts_the_next_hours(model, weather):
    history = [row for row in weather["LGA"] if row[0] < 1_360_000_000][-30:]
    forecast = model.predict(feature_row(model.features, history))
    assert forecast.horizon_h == 3
    assert abs(forecast.value - history[-1][1]["temp"]) < 10
    assert 0.5 < forecast.confidence < 1
    assert forecast.sigma == model.manifest["metrics"]["rmse"]


def test_confidence__of_the_model__is_the_share_of_small_errors(model, candidate):
    quantiles = candidate.evaluation.error_quantiles
    below = sum(value <= 2 for value in quantiles) / len(quantiles)
    assert model.predict(np.zeros((1, 12), dtype=np.float32)).confidence == pytest.approx(below, abs=0.05)


def test_load__as_released__passes_untouched(released):
    assert load_model(*released())


@pytest.mark.parametrize("spot", [0, 100, -1])
def test_load__manifest_altered__is_refused(candidate, spot):
    altered = bytearray(candidate.manifest)
    altered[spot] ^= 1
    with pytest.raises(ModelRejected, match="not the one released"):
        load_model(bytes(altered), candidate.artifact, candidate.manifest_hash)


def test_load__artifact_altered__is_refused(candidate):
    altered = bytearray(candidate.artifact)
    altered[-20] ^= 1
    with pytest.raises(ModelRejected):
        load_model(candidate.manifest, bytes(altered), candidate.manifest_hash)


def test_load__artifact_of_another_release__is_refused(candidate):
    with pytest.raises(ModelRejected, match="artifact"):
        load_model(candidate.manifest, onnx_model(), candidate.manifest_hash)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(format=1),
        lambda m: m.update(feature_schema="0" * 64),
        lambda m: m.pop("models"),
        lambda m: m.pop("baseline"),
        lambda m: m["baseline"]["temp"].update(quantiles=[]),
        lambda m: m.update(error={"sigma": "much"}),
        lambda m: m.update(error={"sigma": 1.0, "levels": [1, 2], "quantiles": [1]}),
        lambda m: m.update(task=None),
        lambda m: m.update(features=None),
        lambda m: m["features"].update(horizon=6),
        lambda m: m["features"].update(lags={"temp": [10**9]}),
        lambda m: m["features"].update(now=["temp"] * 100),
        lambda m: m["models"]["personal"].update(EWR={"sha256": "0" * 64, "size": 1}),
        lambda m: m["models"]["default"].update(size=1),
        lambda m: m.pop("expires_at"),
        lambda m: m.update(expires_at=None),
        lambda m: m.update(expires_at="never"),
        lambda m: m["runtime"].update(opsets={"ai.onnx": 10**9}),
        lambda m: m["runtime"].update(opsets={"com.example": 1}),
        lambda m: m["runtime"].update(opsets={"ai.onnx": "new"}),
        lambda m: m["runtime"].update(onnxruntime=["1.16", "1.17"]),
        lambda m: m["runtime"].update(onnxruntime=["2.0", "3.0"]),
        lambda m: m["runtime"].update(onnxruntime=[]),
    ],
)
def test_load__manifest_released_but_wrong__is_refused(released, change):
    with pytest.raises(ModelRejected):
        load_model(*released(change))


def test_load__its_time_is_over__is_refused_but_what_runs_goes_on(released, forecast):
    ends = 1_400_000_000 + int(forecast.valid_days * 86_400)
    assert load_model(*released(), now=ends - 1)
    with pytest.raises(ModelRejected, match="time is over"):
        load_model(*released(), now=ends)
    assert load_model(*released())


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{", b"[" * 30_000, b"\xff", b" " * 40_000, b"{}"])
def test_load__manifest_is_nonsense__is_refused(candidate, manifest):
    with pytest.raises(ModelRejected):
        load_model(manifest, candidate.artifact, keccak256(manifest))


@pytest.mark.parametrize(
    "artifact",
    [
        onnx_model(width=11),
        onnx_model(width=None),
        onnx_model(inputs=("x", "z")),
        onnx_model(outputs=("y", "z")),
        onnx_model(kind=TensorProto.DOUBLE),
        onnx_model(inputs=("x",))[:-3],
    ],
)
def test_load__artifact_with_another_face__is_refused(released, artifact):
    with pytest.raises(ModelRejected):
        load_model(*released(artifact=artifact))


def test_load__one_asks_for_gigabytes__is_refused_before_it_runs(released):
    node = helper.make_node("ConstantOfShape", ["x"], ["y"])
    graph = onnx.load_from_string(onnx_model())
    graph.graph.node[0].CopyFrom(node)
    with pytest.raises(ModelRejected, match="ConstantOfShape"):
        load_model(*released(artifact=graph.SerializeToString()))


def test_load__forecasts_no_number__is_refused(released, candidate):
    graph = onnx.load_from_string(candidate.artifact)
    regressor = next(node for node in graph.graph.node if node.op_type == "LinearRegressor")
    next(item for item in regressor.attribute if item.name == "intercepts").floats[0] = float("nan")
    with pytest.raises(ModelRejected, match="not a number"):
        load_model(*released(artifact=graph.SerializeToString()))


def test_predict__one_row__takes_microseconds(model):
    row = np.zeros((1, 12), dtype=np.float32)
    start = time.process_time()
    for _ in range(1000):
        model.predict(row)
    assert time.process_time() - start < 0.5  # 10 µs each is usual


@pytest.mark.parametrize(
    ("ahead", "temp", "dewp", "advice"),
    [
        (0.0, 4.0, -2.0, Advice.FROST),
        (6.0, 5.0, 2.0, Advice.HEAT),
        (20.0, 18.0, 10.0, Advice.VENTILATE),
        (29.0, 20.0, 12.0, Advice.VENTILATE),
        (20.0, 28.0, 12.0, Advice.VENTILATE_LATER),
        (15.0, 8.0, 5.0, Advice.VENTILATE_LATER),
        (29.0, 27.0, 12.0, Advice.SHADE),
        (29.0, 20.0, 19.0, Advice.SHADE),
        (20.0, 20.0, 19.0, Advice.HOLD),
    ],
)
def test_recommend__weather_ahead__advises(ahead, temp, dewp, advice):
    recommendation = recommend(Forecast(ahead, 1.0, 0.9, 3), {"temp": temp, "dewp": dewp})
    assert (recommendation.advice, recommendation.forecast) == (advice, ahead)
    assert (recommendation.confidence, recommendation.horizon_h) == (0.9, 3)


def test_recommend__forecast_is_a_guess__changes_nothing():
    assert recommend(Forecast(-5.0, 4.0, 0.3, 3), {"temp": 0.0}).advice is Advice.HOLD


def imported_by(*modules):
    program = (
        f"import sys; import {', '.join(modules)}; print(*sorted(name for name in sys.modules if '.' not in name))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import__on_a_device__brings_nothing_heavy():
    loaded = imported_by("quietfleet.pipeline.features", "quietfleet.pipeline.runtime", "quietfleet.monitor")
    assert "numpy" in loaded
    assert not {"onnxruntime", "sklearn", "scipy", "onnx", "skl2onnx", "pandas"} & loaded


def test_import__storage_on_a_sensor__brings_no_numpy():
    assert "numpy" not in imported_by("quietfleet.storage", "quietfleet.testbed.weather")

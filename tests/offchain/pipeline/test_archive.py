"""Fitted pipelines as files: what is trusted comes back, what is not is refused before anything is made of it."""

import io
import json
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from hostile import HOSTILE, linear, made, model, zipped
from sklearn.base import BaseEstimator
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from quietfleet.cli import main
from quietfleet.errors import ModelRejected
from quietfleet.pipeline.archive import MOST_BYTES, open_model, pack_model

ROWS = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)


class Own(BaseEstimator):
    """A class that only its author has."""


def test_archive__of_scikit_learns_own_parts__comes_back_the_same():
    fitted = make_pipeline(StandardScaler(), Ridge()).fit(ROWS, ROWS[:, 0])
    packed = pack_model(fitted)
    assert packed is not None
    assert (open_model(packed).predict(ROWS) == fitted.predict(ROWS)).all()


@pytest.mark.parametrize("made", [Own(), GradientBoostingRegressor(n_estimators=2).fit(ROWS, ROWS[:, 0])])
def test_archive__of_what_nobody_should_open__is_not_made(made):
    assert pack_model(made) is None


def test_inspect__archive_model_and_what_is_neither__says_what_it_is(tmp_path):
    def told(name, data):
        (tmp_path / name).write_bytes(data)
        result = CliRunner().invoke(main, ["pipeline", "inspect", str(tmp_path / name)])
        return result.exit_code, result.output

    code, output = told("a.skops", pack_model(Ridge().fit(ROWS, ROWS[:, 0])))
    assert (code, output.splitlines()[-1]) == (0, "Ridge()")
    assert told("a.onnx", model(linear()).SerializeToString())[0] == 0
    for name in ("b.skops", "b.onnx"):
        assert told(name, made("pickle"))[0] == 1


@pytest.mark.parametrize("name", ["pickle", "joblib", "skops with an unknown type", "zip bomb", "nothing"])
def test_open__meant_to_harm__is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert name in HOSTILE
    with pytest.raises(ModelRejected):
        open_model(made(name))
    assert not list(tmp_path.iterdir())


def archive(**files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for name, data in files.items():
            opened.writestr(name.replace("__", "/").replace("_dot_", "."), data)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (bytes(MOST_BYTES + 1), "at most"),
        (zipped(64 << 20), "opened it would be"),
        (archive(___dot__dot_evil="x"), "name"),
        (archive(schema_dot_json="["), "not of types"),
        (archive(schema_dot_json="[" * 100_000), "not of types"),
        (archive(schema_dot_json=json.dumps({"__class__": "Ridge"})), "not of types"),
    ],
)
def test_open__measured_or_malformed__is_refused_with_a_sentence(data, why):
    with pytest.raises(ModelRejected, match=why):
        open_model(data)


def test_open__cut_off_anywhere__is_refused():
    packed = pack_model(Ridge().fit(ROWS, ROWS[:, 0]))
    for length in range(0, len(packed), 97):
        with pytest.raises(ModelRejected):
            open_model(packed[:length])

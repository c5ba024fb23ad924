import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from quietfleet.errors import Cancelled, PipelineError
from quietfleet.pipeline import fanout
from quietfleet.pipeline import personalise as module
from quietfleet.pipeline.choices import Choice, Errors, Kind, Personal, Why
from quietfleet.pipeline.fanout import portable
from quietfleet.pipeline.features import feature_table
from quietfleet.pipeline.ingest import ingest
from quietfleet.pipeline.package import PARITY_TOLERANCE
from quietfleet.pipeline.personalise import MARGIN, personalise
from quietfleet.pipeline.project import load_project
from quietfleet.pipeline.run import learn
from quietfleet.pipeline.run_folder import RunFolder
from quietfleet.pipeline.sessions import open_session
from quietfleet.pipeline.stacked import Line, RidgeSearch
from quietfleet.pipeline.train import Memory, Samples, candidates, cuts, split, train
from quietfleet.testbed.crowd import crowd

MAY = 1_367_366_400.0
ALPHAS = (0.01, 0.1, 1.0, 10.0, 100.0)


def pooled(features, sensors):
    """All sensors' samples, without the readings around them."""
    tables = [feature_table(features, one.times, one.columns) for one in sensors]
    lines = (np.concatenate([getattr(one, name) for one in tables]) for name in ("rows", "targets", "times", "naive"))
    device = np.repeat(np.arange(len(tables)), [one.targets.size for one in tables])
    joint = Samples(*lines, device, tuple(one.name for one in sensors))
    return joint.take(np.argsort(joint.times, kind="stable"))


@pytest.fixture(scope="module")
def hundred(forecast):
    """The learning and held-out samples of 120 sensors over 36 days."""
    return split(pooled(forecast.features, list(crowd(120, seed=7, since=MAY, days=36))), forecast)


@pytest.fixture(scope="module")
def some(forecast):
    return split(pooled(forecast.features, list(crowd(9, seed=3, since=MAY, days=30))), forecast)


@pytest.fixture(scope="module")
def chosen(some, forecast):
    return personalise(*some, forecast, train(some[0], forecast, seed=1), seed=1)


def own_folds(mine, cut, horizon):
    return [
        (np.flatnonzero(mine.times < start - horizon), np.flatnonzero((mine.times >= start) & (mine.times < stop)))
        for start, stop in pairwise(cut)
    ]


def line(mine, cut):
    return Line.of(mine.rows, mine.targets, [past.size for past, _ in cut], [(at[0], at[-1] + 1) for _, at in cut])


def search(model, mine, cut, grid=None):
    """What scikit-learn finds, in double precision."""
    grid = grid or {"ridge__alpha": ALPHAS}
    found = GridSearchCV(model, grid, cv=cut, scoring="neg_root_mean_squared_error")
    return found.fit(mine.rows.astype(np.float64), mine.targets)


def scores(found):
    return np.array([-found.cv_results_[f"split{fold}_test_score"] for fold in range(found.n_splits_)]).T


def test_stacked__hundred_and_twenty_devices__choose_what_grid_search_chooses(hundred, forecast):
    learning, _ = hundred
    cut, horizon = cuts(learning.times, forecast), forecast.features.horizon_seconds
    devices = [learning.of_device(index) for index in range(120)]
    parts = [own_folds(mine, cut, horizon) for mine in devices]
    fits = RidgeSearch.of(forecast.model, candidates(forecast, 1)).fit(
        [line(mine, part) for mine, part in zip(devices, parts, strict=True)]
    )
    theirs = [search(forecast.model, *one) for one in list(zip(devices, parts, strict=True))[::6]]
    agreed = [found.best_index_ == best for found, best in zip(theirs, fits.best[::6], strict=True)]
    assert sum(agreed) >= 0.99 * len(agreed)
    for place, found in enumerate(theirs):
        assert scores(found) == pytest.approx(fits.scores[6 * place], abs=1e-9)


@pytest.mark.parametrize(
    "model",
    [
        Ridge(),
        make_pipeline(StandardScaler(with_mean=False), Ridge()),
        make_pipeline(StandardScaler(with_std=False), Ridge()),
        make_pipeline("passthrough", StandardScaler(), Ridge(solver="cholesky")),
    ],
    ids=["no scaler", "no mean", "no deviation", "a step that does nothing"],
)
def test_stacked__other_linear_pipelines__are_theirs_to_the_last_digits(some, forecast, model):
    mine = some[0].of_device(2)
    cut = own_folds(mine, cuts(some[0].times, forecast), forecast.features.horizon_seconds)
    name = "alpha" if isinstance(model, Ridge) else "ridge__alpha"
    found = search(model, mine, cut, {name: ALPHAS})
    fits = RidgeSearch.of(model, [{name: alpha} for alpha in ALPHAS]).fit([line(mine, cut)])
    assert scores(found) == pytest.approx(fits.scores[0], abs=1e-9)
    assert found.best_index_ == fits.best[0]
    ours = (mine.rows - fits.offset[0]) / fits.scale[0] @ fits.weights[0] + fits.intercept[0]
    assert found.predict(mine.rows.astype(np.float64)) == pytest.approx(ours, abs=1e-9)


def test_stacked__constant_column_and_one_in_the_thousands__are_theirs_too(some, forecast):
    mine = some[0].of_device(0)
    rows = np.column_stack([mine.rows, np.full(len(mine), 0.1), 1e4 + mine.rows[:, 0] / 64]).astype(np.float32)
    mine = replace(mine, rows=rows)
    cut = own_folds(mine, cuts(some[0].times, forecast), forecast.features.horizon_seconds)
    found = search(forecast.model, mine, cut)
    fits = RidgeSearch.of(forecast.model, candidates(forecast, 1)).fit([line(mine, cut)])
    assert scores(found) == pytest.approx(fits.scores[0], abs=1e-6)


@pytest.mark.parametrize(
    ("model", "tried"),
    [
        (make_pipeline(MinMaxScaler(), Ridge()), [{"ridge__alpha": 1.0}]),
        (make_pipeline(StandardScaler(), StandardScaler(), Ridge()), [{"ridge__alpha": 1.0}]),
        (make_pipeline(StandardScaler(), Ridge(positive=True)), [{}]),
        (make_pipeline(StandardScaler(), Ridge(fit_intercept=False)), [{}]),
        (make_pipeline(StandardScaler(), Ridge(solver="sag")), [{}]),
        (make_pipeline(StandardScaler(), Ridge()), [{"ridge__alpha": 0.0}]),
        (make_pipeline(StandardScaler(), Ridge()), [{"ridge__alpha": 1e-12}]),
        (make_pipeline(StandardScaler(), Ridge()), [{"ridge__alpha": 1.0, "ridge__fit_intercept": False}]),
        (ElasticNet(), [{"alpha": 1.0}]),
    ],
)
def test_stacked__something_it_does_not_solve__leaves_it_to_the_estimator(model, tried):
    assert RidgeSearch.of(model, tried) is None


def test_personalise__imperfect_instruments__no_device_is_worse_off(chosen, some):
    assert sum(chosen.counts.values()) == 9
    assert chosen.counts[Kind.PERSONAL] > 0
    for one in chosen.choices:
        if one.kind is not Kind.POOLED:
            assert one.validation.of(one.kind) < one.validation.pooled * (1 - MARGIN)
            assert one.held_out.of(one.kind) < one.held_out.pooled
            assert one.gain > 0
    assert chosen.rmse <= chosen.pooled_rmse
    assert set(chosen.models) == {one.device for one in chosen.choices if one.kind is not Kind.POOLED}


def test_personalise__what_is_shipped__forecasts_what_scikit_learn_would(chosen, some, forecast):
    learning, held_out = some
    for device, artifact in chosen.models.items():
        index = held_out.devices.index(device)
        (choice,) = [one for one in chosen.choices if one.device == device]
        mine, later = learning.of_device(index), held_out.of_device(index)
        fitted = forecast.model.set_params(**choice.parameters).fit(mine.rows, mine.targets)
        shipped = open_session(artifact, later.rows.shape[1]).run(None, {"features": later.rows})[0].ravel()
        assert shipped == pytest.approx(fitted.predict(later.rows), abs=PARITY_TOLERANCE)
        assert np.sqrt(np.mean((shipped - later.targets) ** 2)) == pytest.approx(choice.held_out.personal, abs=1e-4)


def test_personalise__one_device_alone__keeps_the_pooled_model(forecast):
    learning, held_out = split(pooled(forecast.features, list(crowd(1, seed=3, since=MAY, days=30))), forecast)
    found = personalise(learning, held_out, forecast, train(learning, forecast, seed=1), seed=1)
    assert [(one.kind, one.why) for one in found.choices] == [(Kind.POOLED, Why.NOT_BETTER)]
    assert not found.models


def test_personalise__a_device_that_came_late__keeps_the_pooled_model(forecast):
    sensors = list(crowd(4, seed=3, since=MAY, days=30))
    late = slice(sensors[3].times.size - 200, None)
    sensors[3] = replace(
        sensors[3], times=sensors[3].times[late], columns={k: v[late] for k, v in sensors[3].columns.items()}
    )
    learning, held_out = split(pooled(forecast.features, sensors), forecast)
    found = personalise(learning, held_out, forecast, train(learning, forecast, seed=1), seed=1)
    assert (found.choices[3].kind, found.choices[3].why) == (Kind.POOLED, Why.TOO_FEW)


def test_personalise__a_device_that_changes_after_the_folds__is_given_back(some, forecast):
    """Its own model is better on every fold and worse on the held-out days: it must not go out."""
    learning, held_out = some
    trained = train(learning, forecast, seed=1)
    before = personalise(learning, held_out, forecast, trained, seed=1)
    device = next(place for place, one in enumerate(before.choices) if one.kind is Kind.PERSONAL)
    pooled_says = trained.model.predict(held_out.rows)
    turned = replace(held_out, targets=np.where(held_out.device == device, pooled_says, held_out.targets))
    found = personalise(learning, turned, forecast, trained, seed=1)
    assert (found.choices[device].kind, found.choices[device].why) == (Kind.POOLED, Why.UNCONFIRMED)
    assert found.choices[device].device not in found.models
    assert found.reasons[Why.UNCONFIRMED] == 1 + before.reasons.get(Why.UNCONFIRMED, 0)


def test_personalise__a_thermometer_that_hardly_moves__is_given_persistence(forecast):
    sensors = list(crowd(6, seed=3, since=MAY, days=30))
    still = np.random.default_rng(1).normal(0, 0.02, sensors[0].times.size).cumsum() + 21
    sensors[0] = replace(sensors[0], columns=sensors[0].columns | {"temp": still})
    learning, held_out = split(pooled(forecast.features, sensors), forecast)
    found = personalise(learning, held_out, forecast, train(learning, forecast, seed=1), seed=1)
    assert found.choices[0].kind is Kind.PERSISTENCE
    mine = held_out.of_device(0)
    said = open_session(found.models[sensors[0].name], mine.rows.shape[1]).run(None, {"features": mine.rows})[0]
    assert said.ravel() == pytest.approx(mine.naive, abs=1e-5)


def test_personalise__same_seed__is_the_same_to_the_bit(some, forecast, chosen):
    again = personalise(*some, forecast, train(some[0], forecast, seed=1), seed=1)
    assert again == chosen


class Kept(Memory):
    def __init__(self):
        self.parts = {}

    def recall_part(self, name):
        return self.parts.get(name)

    def keep_part(self, name, found):
        self.parts[name] = found


def test_personalise__stopped_between_two_parts__goes_on_and_ends_the_same(some, forecast, chosen, monkeypatch):
    monkeypatch.setattr(module, "_STACK", 4)
    trained, memory, told = train(some[0], forecast, seed=1), Kept(), []
    with pytest.raises(Cancelled, match="4 of 9"):
        personalise(*some, forecast, trained, seed=1, memory=memory, stopped=lambda: len(memory.parts) == 1)
    kept = dict(memory.parts)
    found = personalise(
        *some, forecast, trained, seed=1, memory=memory, progress=lambda stage, share: told.append((stage, share))
    )
    assert found == chosen
    assert kept.items() <= memory.parts.items()
    assert len(memory.parts) == 3
    assert told[0] == ("personalise", 0.0)
    assert told[-1] == ("personalise", 1.0)


ENGINEERS_OWN = '''
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import {estimator}
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from quietfleet.pipeline import Channel, Features, Grid, Project


class Slow({estimator}):
    """Defined here, and nowhere that another process could import it from."""


project = Project(
    name="own",
    schema={{name: Channel("", -100, 200) for name in ("temp", "dewp", "humid", "wind_speed")}},
    features=Features(target="temp", horizon=3, now=("temp", "dewp", "humid"), lags={{"temp": (1, 2)}}, clock=True),
    model=make_pipeline(StandardScaler(), {made}),
    search=Grid({{"{name}__alpha": (0.001, 0.01)}}),
    folds=2,
    personal=True,
)
'''


@pytest.fixture(scope="module")
def engineers(tmp_path_factory):
    def write(estimator="ElasticNet", made="ElasticNet()", name="elasticnet"):
        path = tmp_path_factory.mktemp("engineer") / "own.py"
        path.write_text(ENGINEERS_OWN.format(estimator=estimator, made=made, name=name))
        return load_project(path)

    return write


@pytest.fixture(scope="module")
def elastic(engineers):
    project = engineers()
    learning, held_out = split(pooled(project.features, list(crowd(5, seed=3, since=MAY, days=30))), project)
    return learning, held_out, project, train(learning, project, seed=1)


@pytest.fixture(scope="module")
def alone(elastic):
    return personalise(*elastic, seed=1)


def test_personalise__another_estimator__is_searched_device_by_device(alone, elastic):
    learning, _, project, _ = elastic
    assert alone.counts[Kind.PERSONAL] > 0
    for index, choice in enumerate(alone.choices):
        mine = learning.of_device(index)
        cut = own_folds(mine, cuts(learning.times, project), project.features.horizon_seconds)
        found = GridSearchCV(
            project.model, {"elasticnet__alpha": (0.001, 0.01)}, cv=cut, scoring="neg_root_mean_squared_error"
        ).fit(mine.rows, mine.targets)
        assert choice.parameters == found.best_params_
        assert choice.validation.personal == pytest.approx(-found.best_score_, abs=1e-5)


def test_personalise__two_processes__find_what_one_finds(alone, elastic):
    assert personalise(*elastic, seed=1, jobs=2) == alone


def test_personalise__nobody_at_the_scheduler__says_what_to_do(elastic, monkeypatch):
    monkeypatch.setattr(fanout, "REACH", 0.2)
    with pytest.raises(PipelineError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9: start one"):
        personalise(*elastic, seed=1, dask="tcp://127.0.0.1:9")


def test_personalise__no_dask_installed__says_what_to_install(elastic, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(PipelineError, match=r"install quietfleet\[dask\]"):
        personalise(*elastic, seed=1, dask="tcp://127.0.0.1:9")


def test_portable__what_an_engineers_file_defines__runs_where_that_file_is_not(engineers):
    project = engineers(made="Slow()", name="slow")
    script = "import pickle, sys; print(type(pickle.loads(sys.stdin.buffer.read())[-1]).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", script], input=portable(project.model), capture_output=True, check=True
    )
    assert done.stdout.strip() == b"Slow"


def test_personal__nothing_known_of_the_held_out_days__has_no_error():
    one = Choice("a", Kind.POOLED, Why.TOO_FEW, 0, Errors(), Errors())
    assert (Personal((one,), {}).rmse, one.gain) == (None, 0.0)


@pytest.fixture(scope="module")
def crowded(forecast):
    """The readings of nine sensors as a dataset, and what a run makes of it."""
    sensors = list(crowd(9, seed=3, since=MAY, days=30))
    dataset = ingest([row for one in sensors for row in one.readings()], forecast)
    return dataset, learn(dataset, forecast, seed=1, now=MAY)


def test_run_folder__finished__has_every_choice_and_each_model_by_its_hash(crowded, forecast, tmp_path):
    dataset, candidate = crowded
    place = RunFolder(tmp_path / "run", forecast, dataset, 1, random=bytes).finish(candidate)
    told = json.loads((place / "personal.json").read_bytes())
    assert told["counts"] == candidate.personal.counts
    assert [one["device"] for one in told["devices"]] == list(dataset.devices)
    for device, artifact in candidate.personal.models.items():
        assert (place / "personal" / f"{told['models'][device]}.onnx").read_bytes() == artifact
    page = (place / "report.html").read_text()
    assert f"{candidate.personal.counts[Kind.PERSONAL]} of 9 devices got a model of their own" in page
    assert "Device by device" in page


def test_run_folder__part_was_damaged_or_is_another_runs__is_found_out_anew(crowded, forecast, tmp_path):
    dataset, _ = crowded
    folder = RunFolder(tmp_path / "run", forecast, dataset, 1, random=bytes)
    folder.keep_part("one", b"found")
    assert folder.recall_part("one") == b"found"
    assert folder.recall_part("two") is None
    kept = next((tmp_path / "run" / "parts").iterdir())
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1])
    assert folder.recall_part("one") is None
    kept.write_bytes(whole)
    assert RunFolder(tmp_path / "run", forecast, dataset, 2, random=bytes).recall_part("one") is None


def test_learn__project_that_wants_them__candidate_has_models_and_its_page_tells(crowded, forecast):
    dataset, candidate = crowded
    assert candidate.personal.models
    assert candidate.report["personal"]["counts"] == candidate.personal.counts
    assert candidate.findings.choices == candidate.personal.choices
    assert not any(name in json.dumps(candidate.report["personal"]) for name in dataset.devices)
    assert learn(dataset, replace(forecast, personal=False), seed=1, now=MAY).personal is None

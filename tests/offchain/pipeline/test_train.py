import time
from itertools import pairwise

import numpy as np
import pytest

from quietfleet.errors import DataRejected
from quietfleet.pipeline.evaluate import LEVELS, evaluate
from quietfleet.pipeline.features import FEATURES
from quietfleet.pipeline.ingest import ingest
from quietfleet.pipeline.train import ALPHAS, _folds, samples, split, train

HORIZON = 3 * 3600


@pytest.fixture(scope="module")
def prepared(january):
    return samples(january)


def test_samples__three_stations__are_pooled_in_order_of_time(prepared):
    assert (np.diff(prepared.times) >= 0).all()
    assert prepared.rows.shape == (len(prepared), len(FEATURES))
    assert prepared.rows.dtype == np.float32


def test_samples__nothing_but_gaps__is_refused(readings):
    sparse = [row for row in readings((1, 1), (7, 1)) if row[1] // 3600 % 7 == 0]
    with pytest.raises(DataRejected):
        samples(ingest(sparse))


def test_split__cut_in_time__no_training_target_lies_in_the_held_out_days(prepared):
    learning, held_out = split(prepared)
    assert learning.times.max() + HORIZON < held_out.times.min() + 1
    assert 0.15 < len(held_out) / len(prepared) < 0.25


def test_folds__cut_in_time__never_learn_from_the_future(prepared):
    folds = list(_folds(prepared.times))
    assert len(folds) == 3
    for past, future in folds:
        assert prepared.times[past].max() + HORIZON < prepared.times[future].min() + 1
    for (_, before), (_, after) in pairwise(folds):
        assert prepared.times[before].max() < prepared.times[after].min()


def test_train__same_data_and_seed__is_the_same_model(prepared):
    learning, held_out = split(prepared)
    one, other = train(learning, seed=5), train(learning, seed=5)
    assert (one.model.predict(held_out.rows) == other.model.predict(held_out.rows)).all()
    assert one.parameters["alpha"] in ALPHAS
    assert one.search_rmse > 0


def test_train__forty_days_three_stations__stays_quick(readings):
    start = time.process_time()
    learning, _ = split(samples(ingest(readings((1, 1), (2, 10)))))
    train(learning, seed=1)
    assert time.process_time() - start < 3


def test_train__progress_is_wanted__tells_start_and_end(prepared):
    told = []
    train(prepared, seed=1, progress=lambda stage, share: told.append((stage, share)))
    assert told == [("search", 0.0), ("search", 1.0)]


def test_evaluate__ridge_on_held_out_days__beats_persistence(prepared):
    learning, held_out = split(prepared)
    report = evaluate(train(learning, seed=1).model.predict, held_out)
    assert report.skill > 0.1
    assert report.mae < report.rmse < report.persistence_rmse
    assert report.champion_rmse is None


def test_evaluate__known_errors__reports_exactly_those(prepared):
    _, held_out = split(prepared)
    report = evaluate(lambda _rows: held_out.targets + 2.0, held_out, champion=lambda _rows: held_out.targets - 4.0)
    assert (report.rmse, report.mae, report.champion_rmse, report.champion_skill) == (2.0, 2.0, 4.0, 0.5)
    assert report.error_quantiles == (2.0,) * len(LEVELS)


def test_evaluate__plain_report__is_json_like(prepared):
    _, held_out = split(prepared)
    plain = evaluate(lambda rows: rows[:, 0], held_out).to_plain()
    assert plain["skill"] == pytest.approx(0, abs=1e-4)
    assert isinstance(plain["error_quantiles"], list)

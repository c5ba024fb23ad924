import time
from itertools import pairwise

import numpy as np
import pytest

from quietfleet.errors import DataRejected
from quietfleet.pipeline.evaluate import LEVELS, evaluate
from quietfleet.pipeline.ingest import ingest
from quietfleet.pipeline.train import folds, samples, split, train

HORIZON = 3 * 3600


@pytest.fixture(scope="module")
def prepared(january, forecast):
    return samples(january, forecast.features)


def test_samples__three_stations__are_pooled_in_order_of_time(prepared, forecast):
    assert (np.diff(prepared.times) >= 0).all()
    assert prepared.rows.shape == (len(prepared), len(forecast.features.names))
    assert prepared.rows.dtype == np.float32


def test_samples__nothing_but_gaps__is_refused(readings, forecast):
    sparse = [row for row in readings((1, 1), (7, 1)) if row[1] // 3600 % 7 == 0]
    with pytest.raises(DataRejected):
        samples(ingest(sparse, forecast), forecast.features)


def test_split__cut_in_time__no_training_target_lies_in_the_held_out_days(prepared, forecast):
    learning, held_out = split(prepared, forecast)
    assert learning.times.max() + HORIZON < held_out.times.min() + 1
    assert 0.15 < len(held_out) / len(prepared) < 0.25


def test_folds__cut_in_time__never_learn_from_the_future(prepared, forecast):
    cut = folds(prepared.times, forecast)
    assert len(cut) == 3
    for past, future in cut:
        assert prepared.times[past].max() + HORIZON < prepared.times[future].min() + 1
    for (_, before), (_, after) in pairwise(cut):
        assert prepared.times[before].max() < prepared.times[after].min()


def test_train__same_data_and_seed__is_the_same_model(prepared, forecast):
    learning, held_out = split(prepared, forecast)
    one, other = train(learning, forecast, seed=5), train(learning, forecast, seed=5)
    assert (one.model.predict(held_out.rows) == other.model.predict(held_out.rows)).all()
    assert one.parameters["ridge__alpha"] in forecast.search.parameters["ridge__alpha"]
    assert one.search_rmse > 0


def test_train__forty_days_three_stations__stays_quick(readings, forecast):
    start = time.process_time()
    learning, _ = split(samples(ingest(readings((1, 1), (2, 10)), forecast), forecast.features), forecast)
    train(learning, forecast, seed=1)
    assert time.process_time() - start < 3


def test_train__progress_is_wanted__tells_start_and_end(prepared, forecast):
    told = []
    train(prepared, forecast, seed=1, progress=lambda stage, share: told.append((stage, share)))
    assert told == [("search", pytest.approx(done / 15)) for done in range(16)]


def test_evaluate__ridge_on_held_out_days__beats_persistence(prepared, forecast):
    learning, held_out = split(prepared, forecast)
    report = evaluate(train(learning, forecast, seed=1).model.predict, held_out)
    assert report.skill > 0.1
    assert report.mae < report.rmse < report.persistence_rmse
    assert report.champion_rmse is None


def test_evaluate__known_errors__reports_exactly_those(prepared, forecast):
    _, held_out = split(prepared, forecast)
    report = evaluate(lambda _rows: held_out.targets + 2.0, held_out, champion=held_out.targets - 4.0)
    assert (report.rmse, report.mae, report.champion_rmse, report.champion_skill) == (2.0, 2.0, 4.0, 0.5)
    assert report.error_quantiles == (2.0,) * len(LEVELS)


def test_evaluate__plain_report__is_json_like(prepared, forecast):
    _, held_out = split(prepared, forecast)
    plain = evaluate(lambda rows: rows[:, 0], held_out).to_plain()
    assert plain["skill"] == pytest.approx(0, abs=1e-4)
    assert isinstance(plain["error_quantiles"], list)

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from quietfleet.cli import main
from quietfleet.errors import DataRejected
from quietfleet.pipeline.evaluate import LEVELS, evaluate, examine
from quietfleet.pipeline.ingest import ingest
from quietfleet.pipeline.report import Report, render, verdict
from quietfleet.pipeline.run import learn
from quietfleet.pipeline.run_folder import RunFolder
from quietfleet.pipeline.train import Samples

EVIL = "<script>alert('$x$')</script>&\"https://example.org"


def made(errors, days=400, devices=("a", "b")):
    """Samples of hourly truth 0, and a model that errs like this."""
    n = days * 24
    times = 1_356_998_400.0 + 3600.0 * np.arange(n)
    device = np.arange(n) % len(devices)
    rows = errors(times, device).astype(np.float32)[:, None]
    return Samples(rows, np.zeros(n), times, np.full(n, 2.0), device, devices)


def as_told(rows):
    return rows[:, 0]


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


@pytest.fixture(scope="module")
def page(candidate):
    return render(candidate.findings)


def test_examine__worse_device_season_and_hour__each_is_found():
    def errors(times, device):
        summer = (times - 1_356_998_400) % (365 * 86_400) // 86_400 // 31 == 6
        return 1.0 + device + 3.0 * summer + 5.0 * (times % 86_400 == 43_200)

    found = examine(as_told, made(errors))
    assert [group.name for group in found.seasons] == ["Dec-Feb", "Mar-May", "Jun-Aug", "Sep-Nov"]
    assert max(found.devices, key=lambda group: group.rmse).name == "b"
    assert max(found.seasons, key=lambda group: group.rmse).name == "Jun-Aug"
    assert max(found.hours, key=lambda group: group.rmse).name == "12"
    assert sum(group.n for group in found.hours) == 400 * 24
    assert all(group.persistence_rmse == 2.0 for group in found.devices)


def test_examine__horizon__hour_is_that_of_the_moment_forecast():
    found = examine(as_told, made(lambda times, _device: 1.0 * (times % 86_400 == 0)), horizon=3 * 3600.0)
    assert max(found.hours, key=lambda group: group.rmse).name == "03"


def test_examine__one_part_is_the_whole__agrees_with_the_evaluation():
    held_out = made(lambda times, _device: np.sin(times), devices=("only",))
    (group,) = examine(as_told, held_out, champion=2 * held_out.rows[:, 0]).devices
    whole = evaluate(as_told, held_out, champion=2 * held_out.rows[:, 0])
    assert (group.n, group.rmse, group.mae, group.skill) == (whole.n, whole.rmse, whole.mae, whole.skill)
    assert group.champion_skill == whole.champion_skill == pytest.approx(0.5, abs=1e-4)
    assert group.coverage == pytest.approx((0.5, 0.8, 0.95), abs=1e-3)


@pytest.mark.parametrize(("grows", "kept"), [(1.0, 0.8), (2.0, 0.4)])
def test_examine__errors_grow_in_the_later_half__calibration_shows_it(grows, kept):
    random = np.random.default_rng(1)

    def errors(times, _device):
        return random.uniform(0, 1, times.size) * np.where(np.arange(times.size) < times.size // 2, 1.0, grows)

    curve = dict(examine(as_told, made(errors)).calibration)
    assert tuple(curve) == LEVELS
    assert curve[0.8] == pytest.approx(kept, abs=0.03)


def test_render__page__stands_alone(page):
    tags = Page(page)
    assert not {"script", "link", "img", "iframe", "object", "a", "image"} & set(tags.tags)
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert all(value.startswith("#") for name, value in tags.attributes if name in {"href", "src"})
    assert "http://" not in page
    assert "https://" not in page
    assert tags.tags.count("svg") == 9
    assert "prefers-color-scheme:dark" in page


def test_render__twice__is_the_same(page, candidate):
    again = Report.from_json(json.dumps(candidate.findings.to_plain()).encode())
    assert again == candidate.findings
    assert render(again) == page


def test_render__names_from_data_are_markup__shown_as_text(readings, candidate):
    plain = json.dumps(candidate.findings.to_plain()).replace('"EWR"', json.dumps(EVIL))
    hostile = render(Report.from_json(plain.encode()))
    assert "script" not in Page(hostile).tags
    assert "&lt;script&gt;" in hostile
    assert Page(hostile).tags.count("svg") == 9


def test_verdict__says_what_it_is_worth(candidate):
    sentence = verdict(candidate.findings)
    assert re.fullmatch(
        r"The model is off by \d\.\d\d °C \(RMSE\), \d+% less than persistence: .* 3 of 3 devices\.", sentence
    )


class Now:
    """A champion that says that it stays as it is now, by the features given."""

    def __init__(self, features):
        self.features = features

    def predict_many(self, rows):
        return rows[:, 0]


def test_learn__champion_with_features_of_its_own__both_are_judged_on_what_both_can_see(readings, forecast):
    january = ingest(
        [row for row in readings((1, 1), (2, 1)) if row[0] != "JFK" or row[1] // 86_400 != 15_729], forecast
    )
    longer = replace(forecast.features, lags={**forecast.features.lags, "dewp": (48,)})
    with_lags = learn(january, forecast, seed=1, now=1.0, champion=Now(longer)).evaluation
    alone = learn(january, forecast, seed=1, now=1.0, champion=Now(forecast.features)).evaluation
    assert alone.n / 2 < with_lags.n < alone.n
    assert with_lags.champion_rmse == with_lags.persistence_rmse
    assert alone.champion_rmse == alone.persistence_rmse


def test_learn__champion_of_another_task__is_no_rival(january, forecast):
    other = replace(forecast.features, horizon=6)
    assert learn(january, forecast, seed=1, now=1.0, champion=Now(other)).evaluation.champion_rmse is None


def test_learn__champion_reads_what_is_no_longer_kept__says_so_and_releases_nothing(january, forecast):
    other = replace(forecast.features, now=(*forecast.features.now, "pressure"))
    with pytest.raises(DataRejected, match="pressure"):
        learn(january, forecast, seed=1, now=1.0, champion=Now(other))


def test_learn__with_a_champion__is_told_beside_it(january, forecast, candidate):
    rival = learn(january, forecast, seed=1, now=1.0, champion=Now(forecast.features))
    assert rival.findings.examination.devices[0].champion_skill > 0
    assert "than the champion" in verdict(rival.findings)
    assert "champion" in render(rival.findings)
    assert candidate.findings.examination.devices[0].champion_rmse is None


def test_command__report__makes_the_page_again_from_its_json(tmp_path, january, forecast, candidate):
    model = RunFolder(tmp_path / "run", forecast, january, 1, random=bytes).finish(candidate)
    before = (model / "report.html").read_bytes()
    (model / "report.html").unlink()
    CliRunner().invoke(main, ["pipeline", "report", str(tmp_path / "run")], catch_exceptions=False)
    assert (model / "report.html").read_bytes() == before


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"project": 1}'])
def test_report__of_what_no_run_wrote__is_refused(text):
    with pytest.raises(DataRejected, match="no evaluation"):
        Report.from_json(text)


def test_manifest__of_the_same_run__names_no_device(candidate):
    assert b"EWR" not in candidate.manifest
    assert "EWR" not in json.dumps({**candidate.report, "lineage": None})

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from quietfleet.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_count__same_labels__adds_up(metrics: Metrics) -> None:
    metrics.count("dropped", reason="low_pow")
    metrics.count("dropped", 2, reason="low_pow")
    metrics.count("dropped", reason="expired")
    assert metrics.value("dropped", reason="low_pow") == 3
    assert metrics.value("dropped", reason="expired") == 1


def test_gauge__set_twice__keeps_the_last(metrics: Metrics) -> None:
    metrics.gauge("pool_bytes", 10)
    metrics.gauge("pool_bytes", 4)
    assert metrics.value("pool_bytes") == 4


def test_value__never_used__is_zero(metrics: Metrics) -> None:
    metrics.count("dropped", reason="expired")
    assert metrics.value("dropped", reason="low_pow") == 0
    assert metrics.value("unheard_of") == 0


def test_metrics__two_workers__do_not_share_numbers(metrics: Metrics) -> None:
    metrics.count("sent")
    assert Metrics().value("sent") == 0


def test_write__several_metrics__prefixed_text_that_replaces_the_file(metrics: Metrics, tmp_path: Path) -> None:
    path = tmp_path / "worker.prom"
    path.write_text("old")
    metrics.count("sent", 2)
    metrics.gauge("peers", 3, link="shh")
    metrics.write(path)
    lines = path.read_text().splitlines()
    assert "quietfleet_sent_total 2.0" in lines
    assert 'quietfleet_peers{link="shh"} 3.0' in lines
    assert list(tmp_path.iterdir()) == [path]


def test_write__labels_of_all_kinds__a_prometheus_reader_finds_every_value(metrics: Metrics, tmp_path: Path) -> None:
    awkward = 'a "quoted" \\ word\nand a line'
    metrics.count("dropped", 2, reason=awkward)
    metrics.count("dropped", reason="expired", kind="old")
    metrics.gauge("pool", float("nan"))
    metrics.gauge("age", 1e300)
    metrics.write(tmp_path / "worker.prom")
    families = text_string_to_metric_families((tmp_path / "worker.prom").read_text())
    samples = {(one.name, tuple(one.labels.items())): one.value for family in families for one in family.samples}
    assert samples["quietfleet_dropped_total", (("reason", awkward),)] == 2
    assert samples["quietfleet_dropped_total", (("kind", "old"), ("reason", "expired"))] == 1
    assert samples["quietfleet_age", ()] == 1e300


def test_count__a_negative_number__is_refused(metrics: Metrics) -> None:
    with pytest.raises(ValueError, match="only grows"):
        metrics.count("sent", -1)

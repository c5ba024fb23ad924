import pytest

from quietfleet.monitor import RollingPerformance

DAY = 86_400.0


def test_current__nothing_added__is_nothing():
    assert RollingPerformance().current() is None


def test_current__some_truths__compares_with_persistence():
    rolling = RollingPerformance()
    rolling.add(0.0, forecast=11.0, persistence=14.0, actual=10.0)
    rolling.add(1.0, forecast=9.0, persistence=7.0, actual=10.0)
    now = rolling.current()
    assert (now.n, now.rmse) == (2, 1.0)
    assert now.persistence_rmse == pytest.approx((25 / 2) ** 0.5)
    assert now.skill == pytest.approx(1 - 1 / (25 / 2) ** 0.5)


def test_current__a_week_later__has_forgotten():
    rolling = RollingPerformance(7 * DAY)
    rolling.add(0.0, forecast=99.0, persistence=0.0, actual=0.0)
    rolling.add(7 * DAY, forecast=1.0, persistence=2.0, actual=0.0)
    assert rolling.current().rmse == 1.0


def test_skill__persistence_is_perfect__is_zero_not_a_crash():
    rolling = RollingPerformance()
    rolling.add(0.0, forecast=1.0, persistence=0.0, actual=0.0)
    assert rolling.current().skill == 0.0

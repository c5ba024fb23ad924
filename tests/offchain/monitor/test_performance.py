import pytest

from quietfleet.monitor import Performance, combined


def test_combined__of_nothing__is_nothing():
    assert combined([]) is None
    assert combined([Performance(0, 0.0, 0.0)]) is None


def test_combined__of_several__counts_each_comparison_once():
    found = combined([Performance(1, 1.0, 4.0), Performance(3, 1.0, 3.0)])
    assert (found.n, found.rmse) == (4, 1.0)
    assert found.persistence_rmse == pytest.approx((43 / 4) ** 0.5)
    assert found.skill == pytest.approx(1 - 1 / (43 / 4) ** 0.5)


def test_skill__persistence_is_perfect__is_zero_not_a_crash():
    assert Performance(1, 1.0, 0.0).skill == 0.0

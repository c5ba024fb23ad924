from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.whisper import urgency

POWS = st.floats(0, 1e9)
TTLS = st.integers(1, 10**6)
WEIGHTS = st.floats(0.01, 0.99)


@given(POWS, TTLS, WEIGHTS, st.floats(1.01, 100))
def test_urgency__more_work__never_falls(pow_: float, ttl: int, weight: float, factor: float) -> None:
    assert urgency(pow_ * factor, ttl, weight) >= urgency(pow_, ttl, weight)
    assert urgency(pow_ * factor + 1, ttl, weight) > urgency(pow_, ttl, weight)


@given(POWS, TTLS, WEIGHTS, st.integers(1, 1000))
def test_urgency__longer_to_live__falls(pow_: float, ttl: int, weight: float, more: int) -> None:
    assert urgency(pow_, ttl + more, weight) < urgency(pow_, ttl, weight)


@pytest.mark.parametrize(("weight", "patient_first"), [(0.9, True), (0.1, False)])
def test_urgency__work_against_haste__weight_decides(weight: float, patient_first: bool) -> None:
    patient, hasty = urgency(50.0, 300, weight), urgency(0.5, 10, weight)
    assert (patient > hasty) == patient_first


def test_urgency__weight_at_either_end__only_one_of_them_counts() -> None:
    assert urgency(5.0, 10, 1.0) == urgency(5.0, 1000, 1.0)
    assert urgency(5.0, 10, 0.0) == urgency(500.0, 10, 0.0)

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.errors import MonitorError
from quietfleet.monitor import privacy
from quietfleet.monitor.privacy import KINDS_EACH, STEPS, affordable, discrete_laplace, noisy, rational, tell_group

DRAWS = 20_000
KINDS = ("drifted", "gap", "range", "stuck")


def dice(seed):
    return random.Random(seed).randbytes


def pmf(x, scale):
    """The distribution in closed form, written down anew."""
    q = math.exp(-1 / float(scale))
    return (1 - q) / (1 + q) * q ** abs(x)


@pytest.mark.parametrize("scale", [Fraction(1, 3), Fraction(1), Fraction(5, 2), Fraction(8)])
def test_noise__drawn_often__is_distributed_as_it_should_be(scale):
    random_bytes = dice(7)
    counts = Counter(discrete_laplace(scale, random_bytes) for _ in range(DRAWS))
    edge = next(x for x in range(1, 500) if DRAWS * pmf(x, scale) < 20)
    cells = [(counts[x], DRAWS * pmf(x, scale)) for x in range(-edge + 1, edge)]
    cells.append((DRAWS - sum(seen for seen, _ in cells), DRAWS - sum(due for _, due in cells)))
    statistic = sum((seen - due) ** 2 / due for seen, due in cells)
    freedom = len(cells) - 1
    assert statistic < freedom + 4 * math.sqrt(2 * freedom)


def test_noise__of_one_seed__is_the_same_again():
    assert [discrete_laplace(Fraction(3), dice(1)) for _ in range(3)] == [discrete_laplace(Fraction(3), dice(1))] * 3


@pytest.mark.parametrize("scale", [Fraction(0), Fraction(-1)])
def test_noise__without_a_scale__refused(scale):
    with pytest.raises(MonitorError):
        discrete_laplace(scale, dice(1))


@given(st.fractions(0, 1, max_denominator=50), st.integers(0, 2**32))
def test_happens__gamma_of_any_fraction__ends(gamma, seed):
    assert privacy._happens(gamma, dice(seed)) in (True, False)


@given(st.integers(1, 10**6), st.integers(0, 2**32))
def test_below__any_limit__in_range(limit, seed):
    assert 0 <= privacy._below(limit, dice(seed)) < limit


@given(
    st.integers(-50, 50),
    st.integers(-STEPS, STEPS),
    st.integers(1, STEPS),
    st.fractions(Fraction(1, 100), 5, max_denominator=100),
)
def test_noisy__neighbours__no_answer_is_likelier_by_more_than_e_to_the_epsilon(answer, value, sensitivity, epsilon):
    scale = sensitivity / epsilon
    other = value + sensitivity  # as far as one device can move it
    ratio = (abs(answer - other) - abs(answer - value)) / scale  # of log-probabilities, exactly
    assert abs(ratio) <= epsilon


# what one device can do to what is told

devices = st.lists(
    st.tuples(
        st.lists(st.sampled_from([*KINDS, "unheard of"]), max_size=6),
        st.tuples(st.floats(allow_nan=True, allow_infinity=True), st.floats(allow_nan=True, allow_infinity=True)),
    ),
    max_size=12,
)


def of(group):
    faults, errors = [kinds for kinds, _ in group], [errors for _, errors in group]
    return tell_group(faults, KINDS, errors, cap=10.0, epsilon=Fraction(1), random=dice(1))


def before_noise(group):
    """The whole numbers that noise is added to, and how far each may move."""
    seen = []

    def plain(value, sensitivity, _epsilon, _random):
        seen.append((value, sensitivity))
        return value

    original, privacy.noisy = privacy.noisy, plain
    try:
        told = of(group)
    finally:
        privacy.noisy = original
    return seen, told


@given(devices, st.data())
def test_group__one_device_less__nothing_moves_further_than_its_noise_is_for(group, data):
    if not group:
        return
    leaves = data.draw(st.integers(0, len(group) - 1))
    (seen, _), (less, _) = before_noise(group), before_noise(group[:leaves] + group[leaves + 1 :])
    assert [sensitivity for _, sensitivity in seen] == [sensitivity for _, sensitivity in less]
    moved = [abs(value - other) for (value, _), (other, _) in zip(seen, less, strict=True)]
    count, model, free, *faults = moved
    assert count <= 1
    assert max(model, free) <= STEPS
    assert sum(faults) <= KINDS_EACH, "all kinds together have the noise of one histogram"


@given(devices)
def test_group__whatever_it_is__figures_of_this_world(group):
    told = of(group)
    assert told.devices >= 0
    assert 0 <= told.rmse <= 10
    assert 0 <= told.persistence_rmse <= 10
    assert tuple(told.faults) == KINDS
    assert all(isinstance(count, int) and count >= 0 for count in told.faults.values())


def test_group__large__comes_out_about_right():
    faults = [["stuck"]] * 300 + [[]] * 700
    told = tell_group(faults, KINDS, [(2.0, 3.0)] * 1000, cap=10.0, epsilon=Fraction(1), random=dice(5))
    assert told.devices == pytest.approx(1000, abs=40)
    assert told.faults["stuck"] == pytest.approx(300, abs=80)
    assert told.rmse == pytest.approx(2.0, abs=0.3)
    assert told.persistence_rmse == pytest.approx(3.0, abs=0.3)


def test_group__same_question_with_other_noise__other_answers():
    answers = {
        tell_group([["stuck"]], KINDS, [(1.0, 1.0)], cap=10.0, epsilon=Fraction(1), random=dice(seed)).devices
        for seed in range(20)
    }
    assert len(answers) > 3


# the account


@pytest.mark.parametrize(("said", "found"), [(1.0, Fraction(1)), (0.1, Fraction(1, 10)), (0.0019, Fraction(1, 1000))])
def test_rational__never_more_than_was_said(said, found):
    assert rational(said) == found
    assert rational(said) <= Fraction(said) + Fraction(1, 10**12)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 0.0009, math.inf, math.nan])
def test_rational__none_or_no_number__refused(epsilon):
    with pytest.raises(MonitorError):
        rational(epsilon)


def test_affordable__up_to_the_budget_and_no_further():
    assert affordable([0.5] * 5, 0.5, 3.0)
    assert not affordable([0.5] * 6, 0.5, 3.0)
    assert affordable([0.1] * 9, 0.1, 1.0), "ten tenths are one"


def test_noisy__adds_what_was_drawn():
    assert noisy(10, 1, Fraction(1), dice(4)) == 10 + discrete_laplace(Fraction(1), dice(4))

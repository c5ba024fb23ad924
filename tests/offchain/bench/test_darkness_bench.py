from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # the bench is a folder of the repository, not of the package

from bench.darkness import measures, trial
from bench.darkness.first_spy import NOBODY, FirstSpy
from bench.darkness.intersection import Intersection
from bench.darkness.packets import Fleet, Packets
from bench.darkness.recording import Sight
from bench.darkness.timing import Floods, Spies, Timing
from bench.darkness.world import Shape, Spec, Strategy, record

SMALL = Shape(relays=6, workers=18, dials=3, worker_dials=2)
EQUALS = Shape(relays=16, workers=0, dials=3)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(scope="module")
def onion():
    return record(Spec(SMALL, Strategy.ONION, seconds=12.0, seed=3))


@pytest.fixture(scope="module")
def correlation(onion):
    return trial.Correlation(onion)


def spies(relays, workers=()):
    return np.isin(np.arange(SMALL.nodes), [*workers, *(SMALL.workers + relay for relay in relays)])


def reached(run):
    return {(sight.letter, sight.target) for sight in run.recorder.sights}


def test_record__onion_stems__every_letter_reaches_every_other_node(onion):
    senders = [letter.sender for letter in onion.recorder.letters]
    assert senders
    assert sorted(senders) == list(range(SMALL.workers))
    everyone = {(number, node) for number in range(len(senders)) for node in range(SMALL.nodes)}
    # a sender gets its own back with the flood; the exit that began a flood is sent it by nobody
    missing = everyone - reached(onion)
    assert all(node >= SMALL.workers for _, node in missing)
    assert len(missing) <= len(senders)


def test_record__onion_stems__no_worker_sends_an_envelope(onion):
    assert all(sight.source >= SMALL.workers for sight in onion.recorder.sights)


@pytest.mark.parametrize("strategy", [Strategy.WHISPER, Strategy.DIFFUSION, Strategy.DANDELION])
def test_record__plain_strategy__every_letter_reaches_every_other_node(strategy):
    run = record(Spec(EQUALS, strategy, seconds=5.0, senders=6, patience=22.0))
    got = reached(run)
    for number, letter in enumerate(run.recorder.letters):
        assert {(number, node) for node in range(EQUALS.nodes) if node != letter.sender} <= got


def test_packets__of_a_run__three_different_relays_in_order_of_time(onion):
    packets = onion.recorder.packets(onion.first_relay)
    assert len(packets) > 10 * SMALL.workers
    assert (packets.path[:, 0] != packets.path[:, 1]).all()
    assert (packets.path[:, 1] != packets.path[:, 2]).all()
    assert (packets.path[:, 0] != packets.path[:, 2]).all()
    assert (packets.left >= packets.arrived).all()
    assert (packets.arrived[:, 1:] > packets.left[:, :-1]).all()
    assert set(packets.letter) == {-1, *range(SMALL.workers)}


def test_posterior__every_relay_a_spy__names_every_sender(correlation):
    posterior = correlation.posterior(spies(range(SMALL.relays)))
    assert (posterior.argmax(axis=1) == correlation.senders).all()
    assert posterior.max(axis=1) == pytest.approx(1.0)


def test_posterior__no_spies__says_nothing(correlation):
    posterior = correlation.posterior(spies([]))
    assert posterior == pytest.approx(np.full(posterior.shape, 1 / SMALL.workers))


def test_posterior__any_spies__is_a_distribution_over_honest_workers(correlation, rng):
    for _ in range(20):
        who = rng.random(SMALL.nodes) < 0.4
        posterior = correlation.posterior(who)
        assert posterior.sum(axis=1) == pytest.approx(1.0)
        assert (posterior[:, who[: SMALL.workers]] == 0).all()


def test_posterior__over_many_packets__is_as_sure_as_it_is_right(onion, rng):
    packets = onion.recorder.packets(onion.first_relay).of_size(0)
    crowd = onion.crowd(packets)
    row = np.flatnonzero((packets.arrived[:, 0] > 4.0) & (packets.left[:, 2] < onion.seconds - 3.0))
    made = np.floor(packets.arrived[row, 0] - rng.exponential(1 / crowd.rate, len(row)))
    timing = Timing(packets, crowd, Floods(row, made))
    right, sure = [], []
    for _ in range(60):
        who = rng.random(SMALL.nodes) < 0.4
        honest = ~who[timing.senders]
        posterior = timing.posterior(Spies(who[SMALL.workers :], who[: SMALL.workers]))[honest]
        right.append(posterior[np.arange(len(posterior)), timing.senders[honest]].mean())
        sure.append((posterior**2).sum(axis=1).mean())
    assert np.mean(right) == pytest.approx(np.mean(sure), rel=0.1)


def test_outcome__half_are_spies__measures_are_between_nothing_and_everything(correlation, rng):
    outcome = correlation.outcome(trial.fraction(SMALL.nodes, 0.5), 30, rng)
    for each in (outcome.recall, outcome.precision, outcome.matched):
        assert 0.0 < each.mean < 1.0
        assert 0.0 <= each.low <= each.mean <= each.high <= 1.0


def test_outcome__more_spies__find_more(correlation, rng):
    few, many = (correlation.outcome(trial.fraction(SMALL.nodes, share), 40, rng).recall for share in (0.1, 0.7))
    assert few.high < many.low


def test_found__more_letters_of_one_sender__find_it_more_often(onion, rng):
    crossing = Intersection(replace_seconds(onion), 6, 10, rng)
    one, ten = crossing.found((1, 10), trial.fraction(SMALL.nodes, 0.4), 60, rng)
    assert one.chance.mean < ten.chance.mean


def replace_seconds(run):
    """Let more of a short run count: its last seconds serve as crowd only."""
    return replace(run, seconds=run.seconds + 4.0)


def test_droppers__drop_what_goes_to_honest_relays__what_arrives_took_paths_without_or_of_spies():
    droppers = frozenset({0, 1, 2})
    run = record(Spec(SMALL, Strategy.ONION, seconds=8.0, droppers=droppers, patience=20.0, seed=5))
    packets = run.recorder.packets(run.first_relay)
    path = np.isin(packets.path, list(droppers))
    assert len(packets)
    assert not (path[:, 0] & ~path[:, 1]).any()
    assert not (path[:, 1] & ~path[:, 2]).any()


def two_packets():
    """Worker 0 by relays 0, 1, 2 and worker 1 by relays 3, 1, 2, half a second later; the flood is the first one's."""
    arrived = np.array([[1.0, 1.2, 1.4], [1.5, 1.7, 1.9]])
    return Packets(
        worker=np.array([0, 1]),
        path=np.array([[0, 1, 2], [3, 1, 2]]),
        arrived=arrived,
        left=arrived + 0.1,
        size=np.zeros(2, dtype=np.int64),
        letter=np.array([0, -1]),
    )


def two_worker_timing(made):
    links = np.array([[True, False, False, False, False], [False, False, False, True, False]])
    fleet = Fleet(links, np.full((5, 5), 0.1), (0.1, 0.1, 0.1), 1.0)
    return Timing(two_packets(), fleet, Floods(np.array([0]), np.array([made])))


def relay_spies(*relays):
    return Spies(np.isin(np.arange(5), relays), np.zeros(2, dtype=bool))


def test_posterior__guard_and_exit_spies__blames_whose_packet_fits_the_delay():
    assert two_worker_timing(0.0).posterior(relay_spies(0, 2))[0, 0] > 0.9


def test_posterior__middle_and_exit_spies__blames_the_workers_of_that_guard():
    assert two_worker_timing(0.0).posterior(relay_spies(1, 2))[0] == pytest.approx([1.0, 0.0])


def test_posterior__envelope_made_after_the_packet_left__blames_somebody_else():
    before, after = (two_worker_timing(made).posterior(relay_spies(0, 3, 1))[0, 0] for made in (0.0, 1.1))
    assert before > 0.9
    assert after == pytest.approx(0.5)  # nothing is left that fits


def test_suspects__stem_meets_a_spy__is_the_predecessor():
    sights = [Sight(2.0, 3, 9, 0), Sight(1.0, 5, 6, 0), Sight(1.5, 4, 7, 0), Sight(1.7, 7, 9, 0)]
    attack = FirstSpy(sights, 2)
    assert attack.suspects(np.isin(np.arange(10), [7, 9])).tolist() == [4, NOBODY]
    assert attack.suspects(np.isin(np.arange(10), [9, 6])).tolist() == [5, NOBODY]


def test_shares__all_blamed_on_one__divides_the_hit():
    assert measures.shares(np.array([2, 2, 2, NOBODY]), np.array([0, 1, 2, 3])).tolist() == [0, 0, 1 / 3, 0]


def test_matched__two_letters_fit_one_worker_best__gives_the_second_to_another(rng):
    posterior = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0]])
    assert measures.likeliest(posterior, rng).tolist() == [0, 0]
    assert measures.matched(posterior, rng).tolist() == [0, 1]


def test_estimate__known_mean__lies_inside_its_interval(rng):
    values = (rng.random((50, 80)) < 0.3).astype(float)
    estimate = measures.estimate(values, np.ones_like(values, dtype=bool), rng)
    assert estimate.low < 0.3 < estimate.high
    assert estimate.high - estimate.low < 0.1

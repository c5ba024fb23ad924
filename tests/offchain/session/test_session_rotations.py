"""Many rotations, of every kind the chain allows, while workers talk, sleep, crash and read late."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from rotation_world import NAMES, Rotations

ROTATIONS = 1_000


@pytest.fixture
def world(tmp_path, monkeypatch):
    world = Rotations(tmp_path, monkeypatch)
    yield world
    for party in world.everybody:
        party.database.close()


def pairs():
    return [(a, b) for a in NAMES for b in NAMES if a != b]


def turn(world, dice):
    """One rotation and what goes on around it."""
    for sender, receiver in dice.sample(pairs(), 2):
        world.say(sender, receiver)
    match dice.choices(("ahead", "at once", "keep", "reorganise"), (6, 3, 1, 1))[0]:
        case "ahead":
            world.rotate_ahead(dice.choice((0, 0, 2, 5)), dice.choice((0, 0, 3, 8)))
        case "at once":
            world.rotate_at_once()
        case "keep":
            world.keep_keys()
        case _:
            world.reorganise()
    for name in dice.sample(NAMES, len(NAMES)):
        if dice.random() < 0.1:
            world.tick(0.5)  # the others have not read it yet
        world.read(name)
    if dice.random() < 0.05:
        world.sleep(dice.choice(NAMES))
    if world.asleep and dice.random() < 0.15:
        world.wake(next(iter(world.asleep)), killed=dice.random() < 0.5)
    world.say(*dice.choice(pairs()))
    world.tick(dice.choice((0.3, 1.0, 3.0)))


def test_rotations__a_thousand_of_every_kind__no_message_lost_none_read_too_late(world):
    dice = random.Random(2013)
    world.lose = lambda _: dice.random() < 0.02
    slept = 0
    for number in range(ROTATIONS):
        turn(world, dice)
        slept += bool(world.asleep)
        if number % 50 == 49:
            world.rest()
            world.check()
            world.check_kept()
            world.check_all_answered()
    assert world.latest.version > 0.8 * ROTATIONS
    assert slept > ROTATIONS / 20
    assert world.opened > ROTATIONS
    for sender, receiver in pairs():
        world.say(sender, receiver)
    world.rest()
    world.check_all_answered()


@pytest.mark.parametrize("missed", [1, 2, 5, 30])
@pytest.mark.parametrize("killed", [False, True])
def test_rotations__slept_through_many__roots_are_in_step_and_the_session_goes_on(world, missed, killed):
    a, b = world.parties["a"], world.parties["b"]
    opened = a.messenger.session(b.id).id
    world.sleep("a")
    for _ in range(missed):
        world.say("b", "a")
        world.rotate_at_once()
        world.read()
        world.tick(0.1)
    world.wake("a", killed=killed)
    a = world.parties["a"]
    assert a.messenger.epochs.all_secrets()[0].card.version == world.latest.version
    assert [secrets.card.version for secrets in a.messenger.epochs.all_secrets()] == [world.latest.version]
    assert a.messenger.session(b.id).id == opened
    assert a.messenger.session(b.id).root == b.messenger.session(a.id).root
    world.say("a", "b")
    world.rest()
    world.check()
    world.check_all_answered()


def test_rotations__previous_version_unknown_to_one_side__talks_under_the_newest(world):
    """A worker that was asleep reads two configurations of which it has seen neither: no key of the older is due."""
    world.sleep("a")
    for grace in (0, 0, 20):
        world.rotate_ahead(0, grace)
        world.read()
        world.tick()
    world.wake("a")
    a, b = world.parties["a"], world.parties["b"]
    assert set(a.messenger.session(b.id).generations) == set(b.messenger.session(a.id).generations) == {3, 4}
    world.say("a", "b")
    world.say("b", "a")
    world.tick()
    world.check_all_answered()


def test_rotations__grace_is_over_before_the_tick__what_comes_late_is_not_opened(world):
    world.rotate_ahead(0, 5)
    world.read("a")
    a, b = world.parties["a"], world.parties["b"]
    world.say("b", "a")
    (late,) = b.sendable()  # under version 1: b has not read the rotation
    world.clock.advance(5)
    opened = world.opened
    a.take(late)
    assert world.opened == opened
    assert [secrets.card.version for secrets in a.messenger.epochs.all_secrets()] == [2]


class RotationMachine(RuleBasedStateMachine):
    """Any order of rotations, words, sleep, crashes and time."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        self.world = Rotations(Path(self.folder.name), self.patch)

    @rule(lead=st.integers(0, 6), grace=st.sampled_from([0, 0, 3, 8]))
    def rotate_ahead(self, lead, grace):
        self.world.rotate_ahead(lead, grace)

    @rule()
    def rotate_at_once(self):
        self.world.rotate_at_once()

    @rule()
    def keep_keys(self):
        self.world.keep_keys()

    @rule()
    def reorganise(self):
        self.world.reorganise()

    @rule(name=st.sampled_from(NAMES))
    def read(self, name):
        self.world.read(name)

    @rule(pair=st.sampled_from(pairs()))
    def say(self, pair):
        self.world.say(*pair)

    @rule(name=st.sampled_from(NAMES))
    def sleep(self, name):
        self.world.sleep(name)

    @rule(name=st.sampled_from(NAMES), killed=st.booleans())
    def wake(self, name, killed):
        self.world.wake(name, killed=killed)

    @rule(seconds=st.sampled_from([0.2, 1.0, 4.0]))
    def tick(self, seconds):
        self.world.tick(seconds)

    @invariant()
    def nothing_is_read_too_late_or_twice(self):
        self.world.check()

    @invariant()
    def nothing_old_is_kept(self):
        self.world.check_kept()

    def teardown(self):
        self.world.rest()
        self.world.check()
        self.world.check_all_answered()
        for party in self.world.everybody:
            party.database.close()
        self.patch.undo()
        self.folder.cleanup()


RotationMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestRotationsInAnyOrder = RotationMachine.TestCase

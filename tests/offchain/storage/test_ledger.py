"""A store that somebody else may write to: whatever they put back, move or take away is found out before it is used."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_rows import ACTS, SHARED, run

from quietfleet.errors import StoreReverted
from quietfleet.storage import Ledger

SECRET = b"s" * 32
LEDGER = "replica_ledger"


class Writers:
    """Writers of one store, each with rows of its own, and an intruder who has the store but not the secret."""

    def __init__(self, openings):
        self.opening = openings()
        self.dice = random.Random(7)
        self.intruder = self.opening()
        self.opened = [self.intruder]

    def add(self, name, seen=None):
        store = self.opening()
        self.opened.append(store)
        return Ledger(store, SECRET, self.dice.randbytes, name, seen or {})

    def check(self, *writers):
        for one in writers:
            with one.transaction(), one.verified():
                pass

    def raw(self, name):
        return self.intruder.table(name)

    def close(self):
        for store in self.opened:
            store.close()


@pytest.fixture
def writers(openings):
    writers = Writers(openings)
    yield writers
    writers.close()


@SHARED
@given(acts=st.lists(ACTS, max_size=10))
def test_ledger__any_nesting_of_transactions__as_a_dictionary_would_and_proven(openings, acts):
    writers = Writers(openings)
    ledger, other = writers.add(b"one"), writers.add(b"two")
    table, model = ledger.table("things"), {}
    for act in acts:
        run(ledger, table, model, act)
    writers.check(ledger, other)
    with other.transaction(), other.verified():
        assert other.table("things").all() == sorted(model.items())
    writers.close()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.booleans()), max_size=25))
def test_ledger__several_writers_of_their_own_rows_and_of_a_contended_table__always_proven(openings, steps):
    writers = Writers(openings)
    ledgers = [writers.add(bytes([65 + number])) for number in range(3)]
    own = [ledger.table("own") for ledger in ledgers]
    common = [ledger.table("common", contended=True) for ledger in ledgers]
    for turn, (who, row, keep) in enumerate(steps):
        with ledgers[who].transaction():
            if keep:
                own[who].put(bytes([who, row]), bytes([turn]))
                common[who].put(bytes([row]), bytes([turn]))
            else:
                own[who].delete(bytes([who, row]))
                common[who].delete(bytes([row]))
    writers.check(*ledgers, writers.add(b"latecomer"))
    writers.close()


def test_verified__another_took_over_the_rows__both_go_on(writers):
    one, other = writers.add(b"one"), writers.add(b"two")
    mine, theirs = one.table("things"), other.table("things")
    mine.put(b"1", b"first")
    writers.check(other)
    theirs.put(b"1", b"second")
    theirs.put(b"2", b"second")
    writers.check(one)
    mine.delete(b"2")
    writers.check(one, other)
    assert theirs.all() == [(b"1", b"second")]


def attack_old_row(writers, mine):
    old = writers.raw("things").get(b"1")
    mine.put(b"1", b"new")
    writers.raw("things").put(b"1", old)


def attack_row_gone(writers, mine):
    writers.raw("things").delete(b"1")


def attack_row_back(writers, mine):
    old = writers.raw("things").get(b"1")
    mine.delete(b"1")
    writers.raw("things").put(b"1", old)


def attack_rows_swapped(writers, mine):
    first, second = (writers.raw("things").get(row_id) for row_id in (b"1", b"2"))
    writers.raw("things").put(b"1", second)
    writers.raw("things").put(b"2", first)


def attack_row_made_up(writers, mine):
    writers.raw("things").put(b"3", b"made up")


def attack_sums_gone(writers, mine):
    writers.raw(LEDGER).delete(b"one")


def attack_sums_altered(writers, mine):
    row = writers.raw(LEDGER).get(b"one")
    writers.raw(LEDGER).put(b"one", row[:-1] + bytes([row[-1] ^ 1]))


def attack_sums_of_another(writers, mine):
    writers.raw(LEDGER).put(b"two", writers.raw(LEDGER).get(b"one"))


def attack_everything_as_it_was(writers, mine):
    before = {name: writers.raw(name).all() for name in ("things", LEDGER)}
    mine.put(b"1", b"new")
    for name, rows in before.items():
        writers.raw(name).delete_all(b"")
        for row_id, row in rows:
            writers.raw(name).put(row_id, row)


ATTACKS = [
    attack_old_row,
    attack_row_gone,
    attack_row_back,
    attack_rows_swapped,
    attack_row_made_up,
    attack_sums_gone,
    attack_sums_altered,
    attack_sums_of_another,
    attack_everything_as_it_was,
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack__store_changed_behind_the_writers_back__nobody_reads_on(writers, attack):
    one = writers.add(b"one")
    mine = one.table("things")
    for number in (b"1", b"2"):
        mine.put(number, b"row " + number)
    writers.check(one)
    attack(writers, mine)
    seen = {} if attack is not attack_everything_as_it_was else {b"one".hex(): 3}
    heir = writers.add(b"heir", seen)
    heir.table("things")
    with pytest.raises(StoreReverted):
        writers.check(heir)


def test_attack__everything_as_it_was__its_writer_reads_on_no_further_either(writers):
    one = writers.add(b"one")
    mine = one.table("things")
    mine.put(b"1", b"row")
    before = {name: writers.raw(name).all() for name in ("things", LEDGER)}
    mine.put(b"1", b"new")
    writers.check(one)
    for name, rows in before.items():
        for row_id, row in rows:
            writers.raw(name).put(row_id, row)
    with pytest.raises(StoreReverted):
        writers.check(one)

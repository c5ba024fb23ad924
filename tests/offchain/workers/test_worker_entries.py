"""Which relays a worker begins with, whatever the chain's list says."""

from __future__ import annotations

import pytest

from quietfleet.crypto import PrivateKey
from quietfleet.network import Enode
from quietfleet.settings import NetworkSection
from quietfleet.workers._network import ENTRIES, entries


def key(number):
    return PrivateKey.from_bytes(number.to_bytes(32, "big"))


def url(number, host="relay.example"):
    return f"enode://{key(number).public.to_bytes().hex()}@{host}:30303"


LISTED = tuple(url(number) for number in range(1, 17))


def test_entries__sixteen_listed__three_and_the_same_after_each_restart():
    chosen = entries(NetworkSection(), LISTED, key(99))
    assert len(set(chosen)) == ENTRIES == 3
    assert entries(NetworkSection(), LISTED[::-1], key(99)) == chosen


def test_entries__many_workers__begin_with_different_relays():
    chosen = {tuple(entries(NetworkSection(), LISTED, key(100 + number))) for number in range(16)}
    assert len(chosen) > 8


def test_entries__list_changed_in_part__what_stays_listed_stays_chosen():
    before = entries(NetworkSection(), LISTED, key(99))
    after = entries(NetworkSection(), (*(str(one) for one in before[:2]), url(50)), key(99))
    assert set(before[:2]) < set(after)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x" * 200,
        "http://relay.example",
        url(1)[:-6],
        url(1).replace("30303", "99999"),
        "\ufffd" * 50,
        url(1, "a b"),
    ],
)
def test_entries__line_that_is_no_url__is_passed_over(line):
    assert entries(NetworkSection(), (line, LISTED[0]), key(99)) == [Enode.parse(LISTED[0])]


def test_entries__peers_in_the_settings__the_list_is_not_looked_at():
    section = NetworkSection(peers=[url(70)])
    assert entries(section, LISTED, key(99)) == [Enode.parse(url(70))]

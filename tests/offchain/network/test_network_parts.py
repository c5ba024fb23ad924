"""The parts without I/O: addresses, the outbox, pauses, conduct, subscriptions."""

from __future__ import annotations

import random

import pytest

from quietfleet.errors import AddressError
from quietfleet.network.address import Address
from quietfleet.network.backoff import Backoff
from quietfleet.network.conduct import Conduct
from quietfleet.network.outbox import Outbox
from quietfleet.network.subscription import Subscription


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("relay.example:30303", "relay.example", 30303), ("127.0.0.1:0", "127.0.0.1", 0), ("[::1]:65535", "::1", 65535)],
)
def test_parse__valid_address__reads_and_writes_the_same(text, host, port):
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        ":1",
        "host:65536",
        "host:-1",
        "host:1.5",
        "host:٣",
        "::1:80",
        "[host]:80",
        "[]:1",
        "a b:1",
        "quiet://host:1",
        "user@host:1",
        "host:000001",
    ],
)
def test_parse__anything_else__raises_address_error(text):
    with pytest.raises(AddressError):
        Address.parse(text)


def test_take__some_due__returns_them_in_due_order_and_keeps_the_rest():
    outbox = Outbox(limit=10)
    for digest, due in [(b"late", 3.0), (b"second", 2.0), (b"first", 1.0)]:
        assert not outbox.put(digest, due)
    assert outbox.next_due == 1.0
    assert outbox.take(2.5) == [b"first", b"second"]
    assert outbox.next_due == 3.0
    assert outbox.take(9.0) == [b"late"]
    assert outbox.next_due is None


def test_take__same_moment__keeps_the_order_of_arrival():
    outbox = Outbox(limit=10)
    for digest in (b"z", b"a", b"m"):
        outbox.put(digest, 1.0)
    assert outbox.take(1.0) == [b"z", b"a", b"m"]


def test_put__full__drops_the_oldest_and_says_so():
    outbox = Outbox(limit=2)
    dropped = [outbox.put(digest, due) for digest, due in [(b"1", 1.0), (b"2", 2.0), (b"3", 3.0)]]
    assert dropped == [False, False, True]
    assert outbox.take(9.0) == [b"2", b"3"]


def test_pause_after__repeated_failures__doubles_up_to_the_ceiling():
    backoff = Backoff(random.Random(1), first=1.0, ceiling=8.0)
    pauses = [backoff.pause_after(0.0) for _ in range(6)]
    for pause, span in zip(pauses, [1, 2, 4, 8, 8, 8], strict=True):
        assert span / 2 <= pause <= span


def test_pause_after__long_connection__starts_small_again():
    backoff = Backoff(random.Random(1), first=1.0, ceiling=8.0)
    for _ in range(5):
        backoff.pause_after(0.0)
    assert backoff.pause_after(7.9) > 1.0
    assert backoff.pause_after(8.0) <= 1.0


def test_pause_after__two_workers__do_not_return_together():
    one, two = (Backoff(random.Random(seed)).pause_after(0.0) for seed in (1, 2))
    assert one != two


def test_fault__in_a_burst__is_one_too_many_after_those_allowed():
    conduct = Conduct(allowed=3)
    assert [conduct.fault(100.0) for _ in range(4)] == [False, False, False, True]


def test_fault__now_and_then__is_forgiven():
    conduct = Conduct(allowed=1, forgiven_every=10.0)
    assert not any(conduct.fault(10.0 * count) for count in range(1, 50))


async def test_iterate__slow_reader__loses_the_oldest_and_counts_each():
    lost = []
    subscription = Subscription(2, lambda: lost.append(1))
    for envelope in "abcd":
        subscription.put(envelope)
    subscription.close()
    assert [envelope async for envelope in subscription] == ["c", "d"]
    assert len(lost) == 2

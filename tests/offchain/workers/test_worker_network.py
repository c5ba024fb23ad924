"""What a worker's settings make of its node."""

from __future__ import annotations

from quietfleet.network import Tuning
from quietfleet.settings import NetworkSection
from quietfleet.workers._network import _tuning


def test_link_rate__as_it_comes__is_the_nodes_own():
    assert _tuning(NetworkSection().link_rate) == Tuning()


def test_link_rate__raised__packets_and_reading_go_with_it():
    raised = _tuning(200.0)
    assert (raised.new_rate, raised.packet_rate, raised.pace) == (200.0, 400.0, 5_000.0)


def test_link_rate__lowered__what_is_known_already_is_read_as_before():
    lowered = _tuning(2.0)
    assert (lowered.new_rate, lowered.packet_rate, lowered.pace) == (2.0, 4.0, 500.0)

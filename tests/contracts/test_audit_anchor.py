"""Anchors of audit logs: numbered without gaps, each keeper's own, open to whoever wants to check."""

from __future__ import annotations

import ape
import pytest
from eth_utils import keccak

LOG, OTHER_LOG = keccak(text="log"), keccak(text="other log")
FIRST, SECOND = keccak(text="first"), keccak(text="second")


@pytest.fixture(scope="session")
def anchors(project, service_owner):
    return service_owner.deploy(project.AuditAnchor)


def test_anchor__first_and_second__are_numbered_and_told(anchors, publisher):
    one = anchors.anchor(LOG, 1, FIRST, sender=publisher)
    two = anchors.anchor(LOG, 2, SECOND, sender=publisher)
    assert one.events == [anchors.Anchored(keeper=publisher, log=LOG, number=1, commitment=FIRST)]
    assert two.events == [anchors.Anchored(keeper=publisher, log=LOG, number=2, commitment=SECOND)]
    assert tuple(anchors.newest(publisher, LOG)) == (2, two.timestamp, SECOND[:24])


@pytest.mark.parametrize("number", [0, 1, 3, 2**32 - 1])
def test_anchor__another_number_than_the_next__reverts(anchors, publisher, number):
    anchors.anchor(LOG, 1, FIRST, sender=publisher)
    with ape.reverts(anchors.NotNext, log=LOG, number=number, next=2):
        anchors.anchor(LOG, number, SECOND, sender=publisher)
    assert anchors.newest(publisher, LOG).digest == FIRST[:24]


def test_anchor__of_nothing__reverts(anchors, publisher):
    with ape.reverts(anchors.MissingCommitment):
        anchors.anchor(LOG, 1, bytes(32), sender=publisher)


def test_anchor__by_a_stranger_under_the_same_name__is_the_strangers_own(anchors, publisher, stranger):
    anchors.anchor(LOG, 1, FIRST, sender=publisher)
    anchors.anchor(LOG, 1, SECOND, sender=stranger)
    assert anchors.newest(publisher, LOG).digest == FIRST[:24]
    assert anchors.newest(stranger, LOG).digest == SECOND[:24]


def test_anchor__of_another_log__counts_on_its_own(anchors, publisher):
    anchors.anchor(LOG, 1, FIRST, sender=publisher)
    anchors.anchor(OTHER_LOG, 1, FIRST, sender=publisher)
    assert anchors.newest(publisher, OTHER_LOG).number == 1


def test_newest__of_no_log__is_nothing(anchors, stranger):
    assert tuple(anchors.newest(stranger, LOG)) == (0, 0, bytes(24))

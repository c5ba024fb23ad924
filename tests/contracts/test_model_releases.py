from __future__ import annotations

import ape
import pytest
from mirrors import ZERO, State

CHANNEL = b"air quality".ljust(32, b"\0")
OTHER_CHANNEL = b"vibration".ljust(32, b"\0")
NONE = (0, 0, bytes(32), 0, 0)


def manifest(number):
    return bytes([number]) * 32


@pytest.fixture
def publish(releases, publisher):
    """Publishes the manifests of these numbers, one release each."""

    def go(*numbers, channel=CHANNEL):
        for number in numbers:
            releases.publish(channel, manifest(number), sender=publisher)

    return go


@pytest.fixture
def summary(releases):
    """A release without its time: sequence, manifest, artefact, state."""

    def read(sequence, channel=CHANNEL):
        found = releases.release(channel, sequence)
        return found.sequence, found.manifestHash, found.artifactOf, found.state

    return read


def test_current__of_an_unused_channel__is_all_zero(releases):
    assert tuple(releases.current(CHANNEL)) == NONE


@pytest.mark.parametrize("sequence", [0, 2])
def test_release__unknown__is_all_zero(sequence, releases, publish):
    publish(1)
    assert tuple(releases.release(CHANNEL, sequence)) == NONE


def test_publish__a_new_model__becomes_current(releases, publisher, chain):
    tx = releases.publish(CHANNEL, manifest(1), sender=publisher)
    assert tx.events == [releases.ReleasePublished(channel=CHANNEL, sequence=1, manifestHash=manifest(1))]
    time = chain.blocks[tx.block_number].timestamp
    assert tuple(releases.current(CHANNEL)) == (1, time, manifest(1), 1, State.PUBLISHED)


def test_publish__several__count_by_channel(releases, publish, summary):
    publish(1, 2)
    publish(3, channel=OTHER_CHANNEL)
    assert summary(2) == (2, manifest(2), 2, State.PUBLISHED)
    assert releases.current(OTHER_CHANNEL).sequence == 1


def test_publish__without_manifest__reverts(releases, publisher):
    with ape.reverts(releases.MissingManifest):
        releases.publish(CHANNEL, bytes(32), sender=publisher)


def test_publish__what_is_current__reverts(releases, publish, publisher):
    publish(1)
    with ape.reverts(releases.AlreadyCurrent, channel=CHANNEL, sequence=1):
        releases.publish(CHANNEL, manifest(1), sender=publisher)


@pytest.mark.parametrize("role", ["stranger", "service_owner"])
def test_publish__by_anyone_but_the_publisher__reverts(role, releases, request):
    caller = request.getfixturevalue(role)
    with ape.reverts(releases.NotPublisher, caller=caller):
        releases.publish(CHANNEL, manifest(1), sender=caller)


@pytest.mark.parametrize("role", ["publisher", "service_owner"])
def test_roll_back__to_an_older_release__issues_it_anew(role, releases, publish, summary, request):
    publish(1, 2)
    tx = releases.rollBack(CHANNEL, 1, sender=request.getfixturevalue(role))
    expected = releases.RolledBack(channel=CHANNEL, sequence=3, target=1, manifestHash=manifest(1))
    assert tx.events == [expected]
    assert summary(3) == (3, manifest(1), 1, State.PUBLISHED)
    assert releases.current(CHANNEL).sequence == 3


def test_roll_back__to_a_re_issue__names_the_first_of_its_artefact(releases, publish, publisher, summary):
    publish(1, 2)
    releases.rollBack(CHANNEL, 1, sender=publisher)
    publish(4)
    releases.rollBack(CHANNEL, 3, sender=publisher)
    assert summary(5) == (5, manifest(1), 1, State.PUBLISHED)


@pytest.mark.parametrize("target", [0, 3])
def test_roll_back__to_an_unknown_release__reverts(target, releases, publish, publisher):
    publish(1, 2)
    with ape.reverts(releases.UnknownRelease, channel=CHANNEL, sequence=target):
        releases.rollBack(CHANNEL, target, sender=publisher)


def test_roll_back__to_what_is_current__reverts(releases, publish, publisher):
    publish(1, 2)
    with ape.reverts(releases.AlreadyCurrent, channel=CHANNEL, sequence=2):
        releases.rollBack(CHANNEL, 2, sender=publisher)


def test_roll_back__to_a_revoked_release__reverts(releases, publish, publisher, service_owner):
    publish(1, 2)
    releases.revoke(CHANNEL, 1, sender=service_owner)
    with ape.reverts(releases.RevokedManifest, channel=CHANNEL, manifestHash=manifest(1)):
        releases.rollBack(CHANNEL, 1, sender=publisher)


def test_roll_back__by_a_stranger__reverts(releases, publish, stranger):
    publish(1, 2)
    with ape.reverts(releases.NotPublisherOrOwner, caller=stranger):
        releases.rollBack(CHANNEL, 1, sender=stranger)


def test_revoke__an_older_release__marks_it(releases, publish, service_owner, summary):
    publish(1, 2)
    tx = releases.revoke(CHANNEL, 1, sender=service_owner)
    assert tx.events == [releases.ReleaseRevoked(channel=CHANNEL, sequence=1)]
    assert summary(1) == (1, manifest(1), 1, State.REVOKED)
    assert summary(2) == (2, manifest(2), 2, State.PUBLISHED)


def test_revoke__a_re_issue__marks_every_release_of_the_manifest(releases, publish, publisher, service_owner, summary):
    publish(1, 2)
    releases.rollBack(CHANNEL, 1, sender=publisher)
    publish(4)
    releases.revoke(CHANNEL, 3, sender=service_owner)
    assert [summary(sequence)[3] for sequence in (1, 2, 3, 4)] == [2, 1, 2, 1]
    with ape.reverts(releases.RevokedManifest, channel=CHANNEL):
        releases.rollBack(CHANNEL, 1, sender=publisher)


def test_revoke__then_publish_the_manifest_anew__reverts(releases, publish, publisher, service_owner):
    publish(1, 2)
    releases.revoke(CHANNEL, 1, sender=service_owner)
    with ape.reverts(releases.RevokedManifest, channel=CHANNEL, manifestHash=manifest(1)):
        releases.publish(CHANNEL, manifest(1), sender=publisher)


def test_revoke__in_one_channel__leaves_the_others(releases, publish, service_owner, summary):
    publish(1, 2)
    publish(1, 2, channel=OTHER_CHANNEL)
    releases.revoke(CHANNEL, 1, sender=service_owner)
    assert summary(1, OTHER_CHANNEL)[3] == State.PUBLISHED


def test_revoke__the_current__works_only_after_a_roll_back(releases, publish, publisher, service_owner, summary):
    publish(1, 2)
    with ape.reverts(releases.StillCurrent, channel=CHANNEL, sequence=2):
        releases.revoke(CHANNEL, 2, sender=service_owner)
    releases.rollBack(CHANNEL, 1, sender=publisher)
    releases.revoke(CHANNEL, 2, sender=service_owner)
    assert summary(2)[3] == State.REVOKED


def test_revoke__twice__reverts(releases, publish, service_owner):
    publish(1, 2)
    releases.revoke(CHANNEL, 1, sender=service_owner)
    with ape.reverts(releases.Unchanged):
        releases.revoke(CHANNEL, 1, sender=service_owner)


@pytest.mark.parametrize("sequence", [0, 2])
def test_revoke__an_unknown_release__reverts(sequence, releases, publish, service_owner):
    publish(1)
    with ape.reverts(releases.UnknownRelease, channel=CHANNEL, sequence=sequence):
        releases.revoke(CHANNEL, sequence, sender=service_owner)


def test_revoke__by_the_publisher__reverts(releases, publish, publisher):
    publish(1, 2)
    with ape.reverts(releases.OwnableUnauthorizedAccount, account=publisher):
        releases.revoke(CHANNEL, 1, sender=publisher)


def test_set_publisher__to_another__passes_the_right(releases, service_owner, publisher, stranger):
    tx = releases.setPublisher(stranger, sender=service_owner)
    assert tx.events == [releases.PublisherChanged(previous=publisher, current=stranger)]
    assert releases.publisher() == stranger
    with ape.reverts(releases.NotPublisher, caller=publisher):
        releases.publish(CHANNEL, manifest(1), sender=publisher)
    releases.publish(CHANNEL, manifest(1), sender=stranger)


def test_set_publisher__to_nobody__stops_publishing(releases, service_owner, publisher):
    releases.setPublisher(ZERO, sender=service_owner)
    with ape.reverts(releases.NotPublisher, caller=publisher):
        releases.publish(CHANNEL, manifest(1), sender=publisher)


def test_set_publisher__to_the_same__reverts(releases, service_owner, publisher):
    with ape.reverts(releases.Unchanged):
        releases.setPublisher(publisher, sender=service_owner)


def test_set_publisher__by_the_publisher__reverts(releases, publisher, stranger):
    with ape.reverts(releases.OwnableUnauthorizedAccount, account=publisher):
        releases.setPublisher(stranger, sender=publisher)

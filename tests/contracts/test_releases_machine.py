"""Any order of publishing, rolling back and revoking, against a plain list."""

from __future__ import annotations

from dataclasses import dataclass

import ape
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from mirrors import State

CHANNEL = b"air quality".ljust(32, b"\0")
sequences = st.integers(0, 8)


@dataclass(frozen=True)
class Expected:
    manifest: bytes
    artifact_of: int


class ReleasesMachine(RuleBasedStateMachine):
    """The rules; a subclass brings the chain, the contract and the accounts."""

    chain = releases = owner = publisher = None

    def __init__(self):
        super().__init__()
        self.home = self.chain.snapshot()
        self.line = []
        self.revoked = set()

    def teardown(self):
        self.the_line_is_as_expected()
        self.chain.restore(self.home)

    def attempt(self, error, call):
        if error is None:
            return call()
        with ape.reverts(getattr(self.releases, error)):
            call()
        return None

    def refusal(self, manifest):
        """Why this manifest cannot become current, or None."""
        if manifest in self.revoked:
            return "RevokedManifest"
        return "AlreadyCurrent" if self.line and self.line[-1].manifest == manifest else None

    def known(self, sequence):
        return 0 < sequence <= len(self.line)

    @rule(number=st.integers(1, 6))
    def publish(self, number):
        manifest = bytes([number]) * 32
        call = lambda: self.releases.publish(CHANNEL, manifest, sender=self.publisher)  # noqa: E731
        if self.attempt(self.refusal(manifest), call):
            self.line.append(Expected(manifest, len(self.line) + 1))

    @rule(sequence=sequences)
    def roll_back(self, sequence):
        target = self.line[sequence - 1] if self.known(sequence) else None
        error = self.refusal(target.manifest) if target else "UnknownRelease"
        if self.attempt(error, lambda: self.releases.rollBack(CHANNEL, sequence, sender=self.publisher)):
            self.line.append(target)

    @rule(sequence=sequences)
    def revoke(self, sequence):
        error = "UnknownRelease"
        if self.known(sequence):
            manifest = self.line[sequence - 1].manifest
            already, current = manifest in self.revoked, manifest == self.line[-1].manifest
            error = "Unchanged" if already else "StillCurrent" if current else None
        if self.attempt(error, lambda: self.releases.revoke(CHANNEL, sequence, sender=self.owner)):
            self.revoked.add(manifest)

    def the_line_is_as_expected(self):
        """The whole line, looked at once at the end of a run, since nothing ever changes but a revocation."""
        for sequence, expected in enumerate(self.line, 1):
            found = self.releases.release(CHANNEL, sequence)
            state = State.REVOKED if expected.manifest in self.revoked else State.PUBLISHED
            assert found.manifestHash == expected.manifest
            assert (found.sequence, found.artifactOf, found.state) == (sequence, expected.artifact_of, state)

    @invariant()
    def the_current_one_is_the_last_and_never_revoked(self):
        current = self.releases.current(CHANNEL)
        assert current.sequence == len(self.line)
        assert current.state == (State.PUBLISHED if self.line else 0)


def test_releases__any_order_of_actions__behaves_as_the_model(chain, releases, service_owner, publisher):
    world = {"chain": chain, "releases": releases, "owner": service_owner, "publisher": publisher}
    run_state_machine_as_test(
        type("Machine", (ReleasesMachine,), world),
        settings=settings(
            max_examples=5,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )

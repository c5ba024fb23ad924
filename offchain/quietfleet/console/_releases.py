"""The verbs of publishers, of the approver and of the owner of ModelReleases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from quietfleet.chain.channel import ReleaseState, Report, Terms
from quietfleet.console._outbox import Outbox, named, plain
from quietfleet.console._time import EVER
from quietfleet.console._verbs import Verbs
from quietfleet.crypto import keccak256
from quietfleet.errors import NoSigner, TermsError
from quietfleet.owners import View, date, listing, sheet

_File = TypeVar("_File", Terms, Report)

_NOBODY = "0x" + 40 * "0"
_HASH_LENGTH = 66
_TIMES = ("since", "notBefore", "expiresAt")
_COLUMNS = ("sequence", "manifest", "completed", "revoked", "waves")


class ReleaseVerbs(Verbs):
    """The verbs of releases; a channel goes by its name or hash, a release by its number or its manifest's hash."""

    called = "releases"

    def __init__(self, releases: Any, outbox: Outbox, first_block: int) -> None:
        self.about = f"the contract {releases.address}"
        self._releases = releases
        self._outbox = outbox
        self._first_block = first_block

    def facts(self) -> dict[str, Any]:
        """Return what the contract is set to: publishers with their gateways, and channels by hash with their heads."""
        contract = self._releases
        return {
            "address": contract.address,
            "service": contract.service(),
            "owner": contract.owner(),
            "offered_to": contract.pendingOwner(),
            "approver": contract.approver(),
            "publishers": self.publishers(),
            "paused": contract.paused(),
            "channels": {channel: self.head(channel) for channel in self.channels()},
        }

    def publishers(self) -> dict[str, str]:
        """Return who may publish, each with its gateway."""
        named = dict.fromkeys(log.publisher for log in self._releases.PublisherChanged.range(self._first_block, EVER))
        gateways = {publisher: self._releases.gatewayOf(publisher) for publisher in named}
        return {publisher: gateway for publisher, gateway in gateways.items() if gateway != _NOBODY}

    def channels(self) -> list[str]:
        """Return the hashes of all channels that ever had a release or a revocation."""
        events = (self._releases.ReleaseProposed, self._releases.ReleaseRevoked)
        logs = [log for event in events for log in event.range(self._first_block, EVER)]
        return list(dict.fromkeys(_hex(log.channel) for log in logs))

    def revoked(self) -> list[tuple[str, str]]:
        """Return every revoked manifest as channel and manifest hash."""
        logs = self._releases.ReleaseRevoked.range(self._first_block, EVER)
        return [(_hex(log.channel), _hex(log.manifestHash)) for log in logs]

    def is_revoked(self, channel: str, manifest: str) -> bool:
        return bool(self._releases.release(channel_hash(channel), manifest).revoked)

    def head(self, channel: str) -> dict[str, Any]:
        """Return where a channel stands, its state in a word."""
        found = plain(self._releases.head(channel_hash(channel)))
        return dict(found) | {"state": ReleaseState(found["state"]).name.lower()}

    def status(self, channel: str = "") -> View:
        """Show what the contract is set to, or where one channel stands."""
        if not channel:
            return listing(self.facts())
        head = self.head(channel)
        shown = {name: date(at) if name in _TIMES and at else at for name, at in head.items()}
        return listing({"channel": channel} | shown, {"channel": channel} | head)

    def history(self, channel: str) -> View:
        """Show every manifest a channel had, with its terms."""
        rows = [self._manifest(channel, log) for log in self._proposals(channel)]
        return sheet(_COLUMNS, ([row[column] for column in _COLUMNS] for row in rows), rows)

    def propose(self, channel: str, terms: Terms | str | Path) -> View:
        """Propose a release with its terms, given as such or as a JSON file."""
        given = terms if isinstance(terms, Terms) else load(Path(terms), Terms)
        return self._do("propose", channel, msgspec.structs.astuple(given), by=self._publishing())

    def approve(self, channel: str, sequence: int, manifest: str) -> View:
        """Approve the release of that number and manifest, which must be the newest: a replaced one has another."""
        return self._do("approve", channel, sequence, manifest, by=[self._releases.approver()])

    def open(self, channel: str, sequence: int = 0) -> View:
        """Open the next wave of the newest release."""
        return self._do("openWave", channel, sequence or self._newest(channel), by=self._publishing())

    def pause(self, channel: str, sequence: int = 0) -> View:
        """Stop the rollout of the newest release."""
        return self._do("pause", channel, sequence or self._newest(channel), by=self._in_charge())

    def resume(self, channel: str, sequence: int = 0) -> View:
        """Let a paused rollout go on."""
        return self._do("resume", channel, sequence or self._newest(channel), by=[self._releases.approver()])

    def finalise(self, channel: str, manifest: str, report: Report | str | Path, *, floor: int = 0) -> View:
        """Close the rollout of a manifest that reached everybody, with how it went, given as such or as a JSON file."""
        given = report if isinstance(report, Report) else load(Path(report), Report)
        counted = (given.root, given.succeeded, given.failed, given.silent)
        return self._do("finalise", channel, manifest, floor, counted, by=self._publishing())

    def roll_back(self, channel: str, manifest: str) -> View:
        """Bring a manifest back that once reached the whole fleet, as a new release, open to everybody at once."""
        return self._do("rollBack", channel, manifest, by=self._in_charge())

    def revoke(self, channel: str, manifest: str) -> View:
        """Revoke a manifest for good, also one that was never proposed."""
        return self._do("revoke", channel, manifest, by=[self._releases.owner(), self._releases.approver()])

    def set_publisher(self, publisher: str, gateway: str) -> View:
        """Let an account publish for a gateway, by that worker's id."""
        return self._own("setPublisher", publisher, gateway)

    def remove_publisher(self, publisher: str) -> View:
        """Let an account publish no longer."""
        return self._own("setPublisher", publisher, _NOBODY)

    def set_approver(self, approver: str = _NOBODY) -> View:
        """Name who approves; nobody, if left out."""
        return self._own("setApprover", approver)

    def pause_proposals(self) -> View:
        """Take no new releases; nothing else stops."""
        return self._own("setPaused", True)

    def resume_proposals(self) -> View:
        """Take new releases again."""
        return self._own("setPaused", False)

    def offer_ownership(self, to: str = _NOBODY) -> View:
        """Offer the post of the owner to another account; to nobody, the offer is taken back."""
        return self._own("transferOwnership", to)

    def take_ownership(self) -> View:
        """Take the post of the owner that was offered to one of your accounts."""
        by = [self._releases.pendingOwner()]
        self._outbox.send("taking the releases over", self._releases, "acceptOwnership", by=by)
        return self.status()

    def _do(self, function: str, channel: str, *arguments: Any, by: Sequence[str]) -> View:
        self._outbox.send(
            f"{function} on {channel}", self._releases, function, channel_hash(channel), *arguments, by=by
        )
        return self.status(channel)

    def _own(self, function: str, *arguments: Any) -> View:
        by = [self._releases.owner()]
        self._outbox.send(f"{function} of the releases", self._releases, function, *arguments, by=by)
        return self.status()

    def _newest(self, channel: str) -> int:
        return int(self._releases.head(channel_hash(channel)).sequence)

    def _publishing(self) -> list[str]:
        named = list(self.publishers())
        if not named:
            raise NoSigner("nobody publishes yet: have the owner name a publisher, with its gateway")
        return named

    def _in_charge(self) -> list[str]:
        return [self._releases.owner(), self._releases.approver(), *self.publishers()]

    def _proposals(self, channel: str) -> list[Any]:
        wanted = channel_hash(channel)
        logs = self._releases.ReleaseProposed.range(self._first_block, EVER)
        return [log for log in logs if bytes(log.channel) == wanted]

    def _manifest(self, channel: str, log: Any) -> dict[str, Any]:
        terms = named(log.abi.inputs, log.event_arguments.values())["terms"]
        kept = self._releases.release(channel_hash(channel), terms["manifestHash"])
        return {
            "sequence": kept.sequence,
            "manifest": terms["manifestHash"],
            "completed": bool(kept.completed),
            "revoked": bool(kept.revoked),
            "gateHash": terms["gateHash"],
            "groupRoot": terms["groupRoot"],
            "waves": terms["waveCount"],
            "soak": terms["soak"],
        }


def channel_hash(channel: str) -> bytes:
    """Return the hash a channel has on chain, from its name or from itself."""
    if channel.startswith("0x") and len(channel) == _HASH_LENGTH:
        return bytes.fromhex(channel[2:])
    return keccak256(channel.encode())


def load(path: Path, kind: type[_File]) -> _File:
    """Read terms or a report from JSON with 0x-hex hashes; TermsError if it cannot be."""
    try:
        fields = msgspec.json.decode(path.read_bytes(), type=dict[str, int | str])
        return msgspec.convert({name: _value(given) for name, given in fields.items()}, kind)
    except (OSError, ValueError) as error:
        raise TermsError(f"{path}: {error}") from error


def _value(given: int | str) -> int | bytes:
    return bytes.fromhex(given.removeprefix("0x")) if isinstance(given, str) else given


def _hex(value: Any) -> str:
    return f"0x{bytes(value).hex()}"

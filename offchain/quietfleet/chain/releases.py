"""The line of model releases as an object."""

from __future__ import annotations

from typing import Any

import msgspec

from quietfleet.chain._face import Face
from quietfleet.chain.channel import ChannelHead, ReleaseRecord, ReleaseState, Report, Terms
from quietfleet.chain.deployment import ContractRecord
from quietfleet.chain.service import NOBODY
from quietfleet.chain.wallet import Receipt
from quietfleet.chain.waves import WaveProof


class ReleasesContract(Face):
    """The releases of each channel (32 bytes). Writing needs a wallet, reading does not."""

    @property
    def _contract(self) -> ContractRecord:
        return self._client.deployment.releases

    # publishers

    async def propose(self, channel: bytes, terms: Terms) -> Receipt:
        """Propose a release, in place of one of which no wave was opened."""
        return await self._send("propose", channel, _tuple(terms))

    async def open_wave(self, channel: bytes, sequence: int) -> Receipt:
        """Open the next wave of an approved release."""
        return await self._send("openWave", channel, sequence)

    async def finalise(self, channel: bytes, manifest_hash: bytes, floor: int, report: Report) -> Receipt:
        """Close a rollout that reached everybody; `floor` 0 leaves the floor as it is."""
        counted = (report.root, report.succeeded, report.failed, report.silent)
        return await self._send("finalise", channel, manifest_hash, floor, counted)

    async def pause(self, channel: bytes, sequence: int) -> Receipt:
        """Stop a rollout."""
        return await self._send("pause", channel, sequence)

    async def roll_back(self, channel: bytes, manifest_hash: bytes) -> Receipt:
        """Bring back a manifest that once reached the whole fleet, open to everybody at once."""
        return await self._send("rollBack", channel, manifest_hash)

    # the approver, and the owner

    async def approve(self, channel: bytes, sequence: int, manifest_hash: bytes) -> Receipt:
        """Approve the proposed release, naming the manifest that was looked at."""
        return await self._send("approve", channel, sequence, manifest_hash)

    async def resume(self, channel: bytes, sequence: int) -> Receipt:
        """Let a paused rollout go on."""
        return await self._send("resume", channel, sequence)

    async def revoke(self, channel: bytes, manifest_hash: bytes) -> Receipt:
        """Forbid a manifest for good, also one never proposed here."""
        return await self._send("revoke", channel, manifest_hash)

    async def set_publisher(self, publisher: str, gateway: str) -> Receipt:
        """Let an account publish for a gateway (a worker id), or with the zero address no longer."""
        return await self._send("setPublisher", publisher, gateway)

    async def set_approver(self, approver: str) -> Receipt:
        """Name who approves."""
        return await self._send("setApprover", approver)

    # reading

    async def head(self, channel: bytes) -> ChannelHead:
        """Return where a channel stands."""
        (found,) = await self._call("head", channel)
        return ChannelHead(
            sequence=found["sequence"],
            completed=found["completed"],
            floor=found["floor"],
            state=ReleaseState(found["state"]),
            wave=found["wave"],
            wave_count=found["waveCount"],
            since=found["since"],
            not_before=found["notBefore"],
            expires_at=found["expiresAt"],
            soak=found["soak"],
        )

    async def release(self, channel: bytes, manifest_hash: bytes) -> ReleaseRecord:
        """Return what the contract keeps of a manifest."""
        (found,) = await self._call("release", channel, manifest_hash)
        return ReleaseRecord(*found.values())

    async def admits(self, channel: bytes, terms: Terms, proof: WaveProof) -> bool:
        """Ask the contract whether a device may take the newest release up now."""
        return bool((await self._call("admits", channel, _tuple(terms), _tuple(proof)))[0])

    async def approver(self) -> str:
        """Return who approves."""
        return str((await self._call("approver"))[0])

    async def gateway_of(self, publisher: str) -> str | None:
        """Return the gateway an account publishes for; None when for none."""
        found = str((await self._call("gatewayOf", publisher))[0])
        return None if found == NOBODY else found


def _tuple(struct: msgspec.Struct) -> tuple[Any, ...]:
    return msgspec.structs.astuple(struct)

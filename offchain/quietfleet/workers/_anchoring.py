"""Anchors a worker's audit log on chain from time to time, so that even its keeper cannot rewrite it afterwards."""

from __future__ import annotations

from typing import Final

from quietfleet.chain.anchors import KEPT, AnchorContract, KeptAnchor
from quietfleet.clock import waits
from quietfleet.crypto import PrivateKey
from quietfleet.errors import AuditBroken, ChainRejected
from quietfleet.storage import AuditAnchors, LogAnchor
from quietfleet.workers._account import account
from quietfleet.workers._runtime import Runtime

LOOK_EVERY: Final = 60.0  # seconds between two tries at an anchor that no block has


class Anchoring:
    """The anchors of one worker's log, by one account."""

    def __init__(self, runtime: Runtime, keeper: PrivateKey) -> None:
        self._runtime = runtime
        self._keeper = keeper
        self._every = runtime.settings.audit.anchor_every
        self._anchors = AuditAnchors(runtime.database, runtime.audit)
        kept = self._anchors.all()
        self._due = kept[-1].at + self._every if kept and kept[-1].block is not None else 0.0
        self._look_due = 0.0

    @property
    def due(self) -> bool:
        """Whether there is an anchor to be made; never where the deployment has no contract for it."""
        if not self._every or self._runtime.deployment.audit is None:
            return False
        now = self._runtime.clock.now()
        return not waits(now, self._look_due, LOOK_EVERY) and not waits(now, self._due, self._every)

    async def step(self) -> None:
        """Anchor the log as it is; one drawn before a crash is taken up again, whether or not a block has it."""
        now = self._runtime.clock.now()
        self._look_due = now + LOOK_EVERY
        name = self._anchors.name(self._runtime.random)
        async with account(self._runtime, self._keeper) as (client, wallet):
            contract = AnchorContract(client, wallet)
            drawn = self._anchors.next(wallet.address, now, self._runtime.random)
            kept = await contract.newest(wallet.address, name)
            if _is(drawn, kept):
                block = await contract.block_of(wallet.address, name, drawn.number)
            else:
                block = await _anchor(contract, name, drawn)
        if block is None:
            return  # the endpoint has yet to find the event of what it shows; asked again
        with self._runtime.transaction():
            self._anchors.anchored(drawn, block)
            self._runtime.note("audit-anchored", number=drawn.number, entries=drawn.size, block=block)
        self._due = now + self._every


async def _anchor(contract: AnchorContract, name: bytes, drawn: LogAnchor) -> int:
    try:
        return (await contract.anchor(name, drawn.number, drawn.commitment)).block
    except ChainRejected as refusal:
        raise AuditBroken(f"anchored by somebody else, or set back: {refusal}") from refusal


def _is(drawn: LogAnchor, kept: KeptAnchor) -> bool:
    return (drawn.number, drawn.commitment[:KEPT]) == (kept.number, kept.digest)

"""Through what a worker sees the chain: endpoints of its own, or relays of at least two owners that must agree.

A relay with an endpoint also shows its chain to those that have none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

from quietfleet.chain.deployment import Deployment
from quietfleet.chain.endpoints import Endpoints
from quietfleet.chain.replica import Replica
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.source import Source
from quietfleet.clock import Clock
from quietfleet.crypto import checksum_address
from quietfleet.errors import AddressError, ChainDisagreement, ChainError, SettingsError
from quietfleet.metrics import Metrics
from quietfleet.network import ChainAsking, ChainServing, Enode
from quietfleet.settings import RELAYS, ChainSection, NetworkSection
from quietfleet.workers._network import ChainDirectory

VOICES: Final = 2
"""Owners whose relays must say the same."""

_SHOWN_WITHIN: Final = 5.0  # seconds that a relay's own endpoint has, so that who asks the relay is not kept waiting
_VOUCHED: Final = re.compile(r"(0x[0-9a-fA-F]{40})=(enode://.+)")


class View:
    """One worker's view; `service` is its part in the network, if it has one."""

    def __init__(
        self,
        chain: ChainSection,
        network: NetworkSection,
        deployment: Deployment,
        replica: Replica,
        metrics: Metrics,
        clock: Clock,
        random: Callable[[int], bytes],
    ) -> None:
        self._chain, self._deployment, self._metrics = chain, deployment, metrics
        self._relays = vouched(chain) if chain.rpc == RELAYS else {}
        self._shown: ChainClient | None = None
        self.service: ChainAsking | ChainServing | None = None
        if self._relays:
            self.service = self._asking = ChainAsking(ChainDirectory(replica), metrics, random)
        elif network.listen:
            self._shown = ChainClient(chain.rpc, deployment, _SHOWN_WITHIN)
            self.service = ChainServing(self._shown, metrics, clock)

    @property
    def entries(self) -> list[Enode]:
        """The relays to be connected to, lest nothing is seen."""
        return [enode for enodes in self._relays.values() for enode in enodes]

    async def open(self, stack: AsyncExitStack) -> tuple[Sequence[Source], int]:
        """Return the sources, and how many of them must agree."""
        if self._shown is not None:
            await stack.enter_async_context(self._shown)
        if self._relays:
            nodes = {owner: [one.node_id for one in enodes] for owner, enodes in self._relays.items()}
            return [self._asking.source(owner, ids) for owner, ids in nodes.items()], VOICES
        chain = self._chain
        first = [chain.rpc, *([chain.second] if chain.second else [])]
        urls = [*first, *dict.fromkeys(url for url in chain.fallbacks if url not in first)]
        return [await stack.enter_async_context(ChainClient(url, self._deployment)) for url in urls], len(first)

    def failed(self, endpoints: Endpoints, error: ChainError) -> bool:
        """Hear that a reading came to nothing, and count it where two said different things; see `Endpoints.failed`."""
        if isinstance(error, ChainDisagreement):
            self._metrics.count("chain_disagreements", by="relays" if self._relays else "endpoints")
        return endpoints.failed(error)

    def status(self) -> dict[str, object]:
        """What `quietfleet status` shows: whose word the chain is taken on."""
        return {"chain_by": {"owners": sorted(self._relays), "agreeing": VOICES}} if self._relays else {}


def vouched(chain: ChainSection) -> dict[str, list[Enode]]:
    """Return the relays that the settings name, by owner; SettingsError unless they are of two owners at least."""
    if chain.ws or chain.second or chain.fallbacks:
        raise SettingsError('[chain] rpc = "relays" takes no ws, second or fallbacks: relays stand for all of them')
    owners: dict[str, list[Enode]] = {}
    for line in chain.relays:
        parts = _VOUCHED.fullmatch(line)
        if parts is None:
            raise SettingsError(f"[chain] relays: {line!r} is not <owner's address>=<enode URL>")
        try:
            enode = Enode.parse(parts[2])
        except AddressError as error:
            raise SettingsError(f"[chain] relays: {error}") from error
        if any(enode.node_id == other.node_id for several in owners.values() for other in several):
            raise SettingsError(f"[chain] relays: {enode} is named twice")
        owners.setdefault(checksum_address(bytes.fromhex(parts[1][2:])), []).append(enode)
    if len(owners) < VOICES:
        raise SettingsError(f"[chain] relays must be of {VOICES} different owners at least, not of {len(owners)}")
    return owners

"""How a worker takes part in the network: what its settings and the chain make of a node and its services."""

from __future__ import annotations

import random as randomness
import secrets
from dataclasses import dataclass
from typing import Any, Final

from quietfleet.chain.replica import Replica
from quietfleet.chain.types import Head, Kind
from quietfleet.clock import Clock
from quietfleet.crypto import PrivateKey, derive, keccak256
from quietfleet.errors import AddressError, SettingsError
from quietfleet.metrics import Metrics
from quietfleet.mixnet import Guards, OnionKeys, RelayBook, loads
from quietfleet.network import (
    SHH,
    STEM,
    Address,
    Archive,
    Archiving,
    Backfill,
    DelegatedMining,
    EmbeddedNode,
    Enode,
    Limits,
    Miner,
    Mining,
    Relaying,
    RlpxLinks,
    Sending,
    StemTuning,
    Tuning,
    WorkService,
)
from quietfleet.settings import NetworkSection
from quietfleet.storage import Database
from quietfleet.whisper import Rules, search_plain
from quietfleet.workers._state import State

ENTRIES: Final = 3  # relays a worker stays connected to, of those the chain's configuration names
_GUARDS: Final = "guards"
_HEARD: Final = "network heard"


class ChainDirectory:
    """The relays that the chain lists, as the newest block known has them; read once a block, asked at each packet."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._head: Head | None = None
        self._owners: dict[str, str] = {}

    def owner_of(self, key: str) -> str | None:
        """Return the owner of the active relay that speaks by this key."""
        return self._listed().get(key)

    def relays(self) -> int:
        """Return how many active relays there are."""
        return len(self._listed())

    def _listed(self) -> dict[str, str]:
        head = self._replica.head
        if head != self._head:
            self._owners = {one.key: one.owner for one in self._replica.workers(kind=Kind.RELAY) if one.usable}
            self._head = head
        return self._owners


@dataclass(frozen=True, slots=True)
class Presence:
    """A worker's part in the network: its node, and what does its proof of work."""

    node: EmbeddedNode
    miner: Miner
    book: RelayBook
    sending: Sending | None
    _mining: Mining

    def close(self) -> None:
        """End all work under way."""
        self._mining.close()

    def status(self) -> dict[str, Any]:
        """What `quietfleet status` shows of it."""
        sent = {"guard": self.sending.guard, "waiting": self.sending.waiting} if self.sending else {}
        return {"relays": len(self.book), **sent}


def make_presence(
    settings: NetworkSection,
    identity: PrivateKey,
    replica: Replica,
    database: Database,
    domain: bytes,
    metrics: Metrics,
    clock: Clock,
) -> Presence:
    """Build a relay's node, which is known by its registered key, or a worker's, whose key nobody has seen before.

    `domain` names the fleet: chain and contract. SettingsError where a relay cannot say how others reach it.
    """
    relay = bool(settings.listen)
    key = identity if relay else PrivateKey.generate(secrets.token_bytes)
    fleet, rng = keccak256(domain), randomness.SystemRandom()
    directory, mining = ChainDirectory(replica), Mining(search=search_plain if settings.miner == "plain" else None)
    node = EmbeddedNode(
        listen=settings.listen or None,
        peers=settings.peers,
        rules=Rules(),
        metrics=metrics,
        clock=clock,
        rng=rng,
        links=RlpxLinks(key, (SHH, STEM), max_per_address=settings.max_per_address, metrics=metrics),
        directory=directory,
        tuning=_tuning(settings.link_rate),
    )
    book = RelayBook(fleet, directory.owner_of)
    if relay:
        node.add(Relaying(node, book, metrics, clock, OnionKeys(key, fleet, *_reachable(settings))))
        limits = Limits(settings.archive_hours * 3600, settings.archive_mib << 20)
        node.add(Archiving(node, lambda: Archive(database.path.parent / "archive.db", limits), metrics, clock))
        node.add(WorkService(node, mining, metrics, clock))
        return Presence(node, mining, book, None, mining)
    node.add(Relaying(node, book, metrics, clock))
    state, sending, miner = State(database), None, _miner(settings, node, mining, metrics)

    def own_owner() -> str | None:
        worker = replica.worker(identity.public.id)
        return worker.owner if worker else None

    if settings.stem == "onion":
        guards = Guards(
            lambda: _saved(state), lambda raw: state.set(_GUARDS, raw.hex()), directory.owner_of, rng, own_owner
        )
        tuning = StemTuning(loads(settings.cover_rate), settings.hop_delay)
        sending = Sending(node, book, guards, directory, metrics, clock, rng, secrets.token_bytes, tuning, own_owner)
        node.add(sending)
    node.add(
        Backfill(
            node,
            directory,
            metrics,
            clock,
            rng,
            secrets.token_bytes,
            lambda: state.get(_HEARD),
            lambda at: state.set(_HEARD, at),
        )
    )
    return Presence(node, miner, book, sending, mining)


def _tuning(link_rate: float) -> Tuning:
    """Read links as fast as they may bring envelopes: some units each, and more for what is known already."""
    usual = Tuning()
    scale = link_rate / usual.new_rate
    return Tuning(new_rate=link_rate, packet_rate=usual.packet_rate * scale, pace=usual.pace * max(1.0, scale))


def _miner(settings: NetworkSection, node: EmbeddedNode, mining: Mining, metrics: Metrics) -> Miner:
    """Return what does a worker's proof of work: itself, or the relay that its settings name."""
    if not settings.delegate:
        return mining
    relay = Enode.parse(settings.delegate).node_id
    delegated = DelegatedMining(node, relay, mining, metrics, secrets.token_bytes)
    node.add(delegated)
    return delegated


def entries(settings: NetworkSection, bootstrap: tuple[str, ...], identity: PrivateKey) -> list[Enode]:
    """Return whom to stay connected to: the settings' peers, or some of the relays that the chain's list names.

    Which ones is this worker's own lasting choice, so that restarts do not show it to ever more relays. What the chain
    says is not checked there: lines that are no enode URLs are passed over.
    """
    delegate = [Enode.parse(settings.delegate)] if settings.delegate else []
    if settings.peers or settings.listen:
        return list(dict.fromkeys([*delegate, *(Enode.parse(peer) for peer in settings.peers)]))
    seed = derive(identity.to_bytes(), "entry order")
    listed = [enode for url in bootstrap if (enode := _enode(url))]
    chosen = sorted(listed, key=lambda enode: keccak256(seed + str(enode).encode()))[:ENTRIES]
    return list(dict.fromkeys([*delegate, *chosen]))


def relay_enode(settings: NetworkSection, identity: PrivateKey) -> Enode:
    """Return what others reach this relay by; SettingsError unless it listens, on a port that is known beforehand."""
    if not settings.listen:
        raise SettingsError("[network] listen is missing: only relays have an enode")
    return Enode(identity.public.to_bytes(), Address(*_reachable(settings)))


def _enode(url: str) -> Enode | None:
    try:
        return Enode.parse(url)
    except AddressError:
        return None


def _reachable(settings: NetworkSection) -> tuple[str, int]:
    address = Address.parse(settings.advertise or settings.listen)
    if address.port == 0 or address.host in {"0.0.0.0", "::"}:  # noqa: S104 - the opposite of binding to it
        raise SettingsError("[network] advertise must name the host and port at which others reach this relay")
    return address.host, address.port


def _saved(state: State) -> bytes | None:
    raw = state.get(_GUARDS)
    return bytes.fromhex(raw) if raw else None

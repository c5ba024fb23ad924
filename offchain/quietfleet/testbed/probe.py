"""An adversary with a recorder and, later, the keys.

The tap is an ordinary node of the gossip network that keeps every envelope it is handed. `opened_by` then tries each of
them with everything a worker's database holds, sealed columns included, as an attacker would who took the device.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from quietfleet.clock import SystemClock
from quietfleet.crypto import PrivateKey
from quietfleet.errors import CryptoError, PayloadError
from quietfleet.metrics import Metrics
from quietfleet.network import SHH, EmbeddedNode, RlpxLinks
from quietfleet.session import Epochs, Identity
from quietfleet.session._table import Table
from quietfleet.storage import Database
from quietfleet.whisper import Envelope, Rules, open_symmetric


@dataclass(slots=True)
class Tap:
    """Records the whole network from one place; hold it as an async context manager."""

    peers: list[str]
    heard: list[tuple[float, Envelope]] = field(default_factory=list)
    _node: EmbeddedNode | None = None
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        rules = Rules(min_pow=0.0)
        self._node = EmbeddedNode(
            listen=None,
            peers=self.peers,
            rules=rules,
            metrics=Metrics(),
            clock=SystemClock(),
            rng=random.SystemRandom(),
            links=RlpxLinks(PrivateKey.generate(secrets.token_bytes), (SHH,)),
        )
        envelopes = self._node.envelopes()
        await self._node.start()

        async def record() -> None:
            async for envelope in envelopes:
                self.heard.append((SystemClock().now(), envelope))

        self._task = asyncio.create_task(record())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        assert self._node is not None
        self._task.cancel()
        await self._node.stop()

    def sent_after(self, moment: float) -> list[Envelope]:
        """The envelopes heard that were sealed after a moment: not those waiting in a pool since before."""
        return [envelope for _, envelope in self.heard if envelope.sent > moment]


def snapshot(source: Path, target: Path) -> None:
    """Copy a running worker's database as of this moment."""
    with sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True) as live, sqlite3.connect(target) as copy:
        live.backup(copy)
    live.close()
    copy.close()


def opened_by(database: Path, identity: PrivateKey, envelopes: list[Envelope]) -> int:
    """How many of `envelopes` open with the session keys in (a copy of) a worker's database."""
    with Database(database) as state:
        table = Table(state, identity.to_bytes(), secrets.token_bytes)
        return sum(_opens(table, envelope) for envelope in envelopes)


def epoch_keys(database: Path, identity: PrivateKey, versions: range) -> list[int]:
    """The configuration versions whose epoch key or own keys are still in (a copy of) a worker's database."""
    with Database(database) as state:
        epochs = Epochs(state, Identity(identity), secrets.token_bytes)
        return [version for version in versions if epochs.secrets(version) or epochs.epoch_key(version)]


def _opens(table: Table, envelope: Envelope) -> bool:
    for match in table.find(envelope.topic):
        try:
            open_symmetric(match.message.key, envelope.data)
        except (CryptoError, PayloadError):
            continue
        return True
    return False

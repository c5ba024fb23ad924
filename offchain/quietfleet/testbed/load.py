"""Workers that talk at a steady rate, for system tests: processors that upload, and the gateway that takes it.

Everything below the reactions is the real thing. Each writes down, beside its journal, what it said, what was answered
or taken, and when it last opened a message under each configuration version.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final

import click
import uvloop

from quietfleet.chain.types import Change
from quietfleet.clock import Clock, SystemClock
from quietfleet.crypto import PrivateKey
from quietfleet.crypto.keystore import load_keystore
from quietfleet.session import Event, Expired, Messenger, Received
from quietfleet.session._table import Match
from quietfleet.settings import Settings, load_settings, passphrase
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._uplink import Uplink
from quietfleet.workers.gateway import Gateway
from quietfleet.workers.messages import Stored, Upload

RATE: Final = 7.0  # questions a second
UNDER_WAY: Final = 12  # of one worker, at most: a gateway that is away for long is not met by a burst of all it missed
WITHIN: Final = 590.0  # longer than any test: whatever is answered twice was taken twice
CATCH_UP: Final = 5.0  # seconds of words that are made up for after a pause
FIELD: Final = "temp"  # which the project of the gateway names: any other would not be kept


_SCHEMA: Final = [
    "CREATE TABLE load_said (number INTEGER PRIMARY KEY, answered INTEGER NOT NULL DEFAULT 0) STRICT",
    """CREATE TABLE load_taken
       (peer TEXT NOT NULL, number INTEGER NOT NULL, times INTEGER NOT NULL, PRIMARY KEY (peer, number)) STRICT""",
    "CREATE TABLE load_opened (version INTEGER PRIMARY KEY, first REAL NOT NULL, last REAL NOT NULL) STRICT",
]


class LoadRuntime(Runtime):
    """A runtime that notes when it opened what."""

    def __init__(self, settings: Settings, identity: PrivateKey, clock: Clock, phrase: str) -> None:
        super().__init__(settings, identity, clock, phrase)
        self.database.migrate("load", _SCHEMA)

    def make_messenger(self, domain: bytes) -> Messenger:
        messenger = super().make_messenger(domain)
        arrivals = messenger._arrivals  # noqa: SLF001 - it is looked at, not changed
        read = arrivals.read

        def noted(match: Match, payload: bytes) -> list[Event]:
            self._opened(match.version)
            return read(match, payload)

        arrivals.read = noted  # type: ignore[method-assign]
        return messenger

    def _opened(self, version: int) -> None:
        now = self.clock.now()
        self.database.execute(
            "INSERT INTO load_opened VALUES (?, ?, ?) ON CONFLICT (version) DO UPDATE SET last = excluded.last",
            (version, now, now),
        )


class Talker:
    """Uploads one numbered reading after the other, at a rate, and asks again what found no answer."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._uplink = Uplink(runtime)
        self._due = 0.0
        self._asked: set[int] = set()
        self.recover()

    def admit(self, _peer: str, _purpose: str) -> bool:
        return False

    def on_event(self, event: Event) -> None:
        if isinstance(event, Received) and isinstance(event.body, Stored) and event.answers:
            number = int(event.answers)
            self._asked.discard(number)
            self._runtime.database.execute("UPDATE load_said SET answered = answered + 1 WHERE number = ?", (number,))
        elif isinstance(event, Expired):
            self._asked.discard(int(event.context))

    def on_change(self, _change: Change) -> None:
        """Nothing on chain concerns it."""

    def on_tick(self) -> None:
        now = self._runtime.clock.now()
        self._due = max(self._due, now - CATCH_UP)
        while self._due <= now and not self._stopped():
            self._due += 1.0 / RATE
            self._runtime.database.execute("INSERT INTO load_said DEFAULT VALUES")
        if not self._runtime.membership.complete:
            return
        self._uplink.reach()
        gateway = self._uplink.gateway
        if gateway is not None:
            for number in self._owed()[: UNDER_WAY - len(self._asked)]:
                self._ask(gateway, number)

    async def after(self) -> None:
        """Nothing waits for a commit here."""

    def recover(self) -> None:
        self._asked = {int(one.context) for one in self._pending() if one.context.isdigit()}

    def status(self) -> dict[str, Any]:
        database = self._runtime.database
        said, answered = database.execute("SELECT count(*), total(answered > 0) FROM load_said").fetchone()
        return {"said": said, "answered": int(answered), "gateway": self._uplink.gateway}

    def _pending(self) -> list[Any]:
        return list(self._runtime.messenger.conversations.pending.values())

    def _owed(self) -> list[int]:
        """What is not under way: it is new, or it expired, or is from before a restart."""
        sql = "SELECT number FROM load_said WHERE answered = 0"
        open_ = {number for (number,) in self._runtime.database.execute(sql).fetchall()}
        return sorted(open_ - self._asked)

    def _ask(self, gateway: str, number: int) -> None:
        self._asked.add(number)
        row = (self._runtime.data_clock.now() - 1e6 + number, {FIELD: float(number)})
        body = Upload(f"device-{number % 8}", "load", [row])
        self._runtime.messenger.request(gateway, body, (Stored,), WITHIN, str(number))

    def _stopped(self) -> bool:
        return self._runtime.settings.path("quiet").exists()


class LoadGateway(Gateway):
    """A gateway that writes down what it takes, and trains nothing."""

    def on_event(self, event: Event) -> None:
        if isinstance(event, Received) and isinstance(event.body, Upload):
            for _, fields in event.body.rows:
                self._runtime.database.execute(
                    "INSERT INTO load_taken VALUES (?, ?, 1)"
                    " ON CONFLICT (peer, number) DO UPDATE SET times = times + 1",
                    (event.peer, int(fields[FIELD])),
                )
        super().on_event(event)

    def _may_begin(self) -> bool:
        return False


@click.command()
@click.option("--kind", type=click.Choice(["processor", "gateway"]), required=True)
@click.option("--settings", type=click.Path(path_type=Path), required=True)
def main(kind: str, settings: Path) -> None:
    """Run one of them."""
    chosen = load_settings(settings, os.environ)
    phrase = passphrase(os.environ)
    key = load_keystore(chosen.path(chosen.worker.keystore), phrase)

    async def work() -> None:
        runtime = LoadRuntime(chosen, key, SystemClock(), phrase)
        if kind == "gateway":
            runtime.agent = LoadGateway(runtime, load_keystore(chosen.path(chosen.gateway.publisher), phrase))
        else:
            runtime.agent = Talker(runtime)
        await runtime.run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())


if __name__ == "__main__":
    main()

"""A worker that dies at a step given beforehand: any kind of worker as it is, with what outlives it numbered.

A step is what a crash leaves done or not done: each statement that writes, each commit before and after, each file
created, linked, renamed or removed, each envelope published and each transaction sent, before and after.
`QUIETFLEET_DIE_AT` names the step before which the process kills itself with SIGKILL; counting begins at the first
statement of its life, or at the beginning of its work with `QUIETFLEET_DIE_WORKING`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import uvloop

from quietfleet.chain.rpc import ChainClient
from quietfleet.clock import SystemClock
from quietfleet.crypto.keystore import load_keystore
from quietfleet.settings import load_settings, passphrase
from quietfleet.storage import Database
from quietfleet.workers import _host
from quietfleet.workers.relay import Relay
from quietfleet.workers.start import make_worker

_WRITES: Final = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER"})
_CREATES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_SENDS: Final = "eth_sendRawTransaction"

Die = Callable[[], None]


class Steps:
    """Counts what would outlive its worker; at the fatal one, death comes first."""

    def __init__(self, die: Die, fatal: int = 0) -> None:
        self._die = die
        self.fatal = fatal
        self.names: list[str] = []

    def take(self, name: str) -> None:
        """Come to the next step, perhaps not past it."""
        self.names.append(name)
        if len(self.names) == self.fatal:
            self._die()

    def begin(self) -> None:
        """Count from here."""
        self.names.clear()


class _Counted(NamedTuple):
    """What is asked of a cursor after many statements."""

    rowcount: int


class MortalConnection:
    """A connection to SQLite, its writes numbered."""

    def __init__(self, connection: sqlite3.Connection, steps: Steps) -> None:
        self._connection = connection
        self._steps = steps
        self._written = False

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement; a commit is two steps, and so is a write that is its own transaction."""
        verb = sql.lstrip().split(None, 1)[0].upper()
        self._written = verb in _WRITES or (self._written and verb != "BEGIN")
        ends = self._written and (verb == "COMMIT" or not self._connection.in_transaction)
        if ends or verb in _WRITES or "wal_checkpoint" in sql:
            self._steps.take(" ".join(sql.split()[:5]))
        cursor = self._connection.execute(sql, parameters)
        if ends:
            self._written = False
            self._steps.take(f"{verb} done")
        return cursor

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> _Counted:
        """Run one statement for each row, each a step as it is without this."""
        return _Counted(sum(self.execute(sql, row).rowcount for row in rows))

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


class MortalDatabase(Database):
    """A worker's database, its writes numbered."""

    def __init__(self, path: Path | str, steps: Steps) -> None:
        super().__init__(path)
        self._connection = MortalConnection(self._connection, steps)  # type: ignore[assignment]


class MortalNode:
    """A node, what leaves through it numbered."""

    def __init__(self, node: Any, steps: Steps) -> None:
        self._node = node
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    async def publish(self, envelope: Any) -> None:
        """Publish an envelope, if it comes to that."""
        self._steps.take("publish")
        await self._node.publish(envelope)
        self._steps.take("published")


class FileWatch:
    """Numbers what happens to files below some folders, by the interpreter's own audit events: it sees them all.

    SQLite's files are not among them, as it opens them by itself. Of a stem, all `stem.*` are
    watched: keystores lie beside a worker's folder.
    """

    watches: Final[list[FileWatch]] = []
    _installed = False

    def __init__(self, folders: Sequence[Path], steps: Steps, stems: Sequence[Path] = ()) -> None:
        beginnings = (
            *(f"{folder.absolute()}{os.sep}" for folder in folders),
            *(f"{stem.absolute()}." for stem in stems),
            *(f"{stem.absolute().with_name('.' + stem.name)}." for stem in stems),  # what is yet to become one of these
        )
        self._beginnings = beginnings
        self._steps = steps

    def start(self) -> None:
        """Watch from now on; a hook cannot be taken back, so there is one for all."""
        if not FileWatch._installed:
            sys.addaudithook(_heard)
            FileWatch._installed = True
        self.watches.append(self)

    def stop(self) -> None:
        """Watch no longer."""
        if self in self.watches:
            self.watches.remove(self)

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take a step if a file below our folders is about to change."""
        if isinstance(arguments[0], int) or not _changes(event, arguments):
            return
        name = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 - a hook must cause no event itself
        if name.startswith(self._beginnings):
            self._steps.take(f"{event} {Path(name).name}")


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "os.link":
        arguments = arguments[1:]  # the name that is new
    if event in {"open", "os.link", "os.rename", "os.remove"}:
        for watch in list(FileWatch.watches):
            watch.see(event, arguments)


def _changes(event: str, arguments: tuple[Any, ...]) -> bool:
    if event != "open":
        return True
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & _CREATES)


def kill_me() -> None:
    """Die as a power cut would have it."""
    os.kill(os.getpid(), signal.SIGKILL)


def _number_transactions(steps: Steps) -> None:
    request = ChainClient.request

    async def numbered(self: ChainClient, method: str, *parameters: Any) -> Any:
        if method == _SENDS:
            steps.take("send transaction")
        answer = await request(self, method, *parameters)
        if method == _SENDS:
            steps.take("transaction sent")
        return answer

    ChainClient.request = numbered  # type: ignore[method-assign]


@click.command()
@click.argument("kind")
@click.option("--settings", type=click.Path(path_type=Path), required=True)
def main(kind: str, settings: Path) -> None:
    """Run a worker of KIND up to the step that kills it."""
    chosen = load_settings(settings, os.environ)
    phrase = passphrase(os.environ)
    key = load_keystore(chosen.path(chosen.worker.keystore), phrase)
    steps = Steps(kill_me, int(os.environ.get("QUIETFLEET_DIE_AT", "0")))
    _host.Database = lambda path: MortalDatabase(path, steps)  # type: ignore[attr-defined, assignment]
    _number_transactions(steps)

    async def work() -> None:
        relay = kind == "relay"
        worker = Relay(chosen, key, SystemClock()) if relay else make_worker(kind, chosen, key, SystemClock(), phrase)
        FileWatch([worker.folder], steps, [chosen.path(chosen.worker.keystore).with_suffix("")]).start()
        worker.node = MortalNode(worker.node, steps)  # type: ignore[assignment]
        if os.environ.get("QUIETFLEET_DIE_WORKING"):
            steps.begin()
        await worker.run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())


if __name__ == "__main__":
    main()

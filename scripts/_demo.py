"""The demonstration's plumbing: a chain, Ape's accounts as the scene's people, and nothing left behind."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ape.logging import logger
from rich.console import Console
from rich.table import Table
from scripts import _founding, _parameters, _record

from quietfleet.console import Desk, Epoch, Outbox, Signers, open_desk
from quietfleet.testbed.anvil import Anvil, free_port, port_is_free
from quietfleet.testbed.kept import forget, remember, stop_kept
from quietfleet.testbed.scene import Line, Scene
from quietfleet.testbed.screen import Screen
from quietfleet.testbed.story import STEPS, tell

CHAIN = 31337
PORT = 8545  # where the network `ethereum:fleet` of ape-config.yaml looks
ACCOUNTS = 20
INTERRUPTED = 130
WIDTH = 150  # of lines that go to a file
DRAWN = 124  # of the picture


class People:
    """The service owner and the device owners, acting through what they would type in `ape console`."""

    def __init__(self, project: Any, accounts: Any, chain: Any) -> None:
        self._project = project
        self._accounts = accounts
        self._chain = chain
        self._folder = Path(project.path) / "deployments"

    def deploy(self, *, approver: str) -> Path:
        given = _parameters.load(Path(self._project.path) / "scripts/params/default.yaml")
        owner, named = self._accounts.test_accounts[0], given | {"approver": approver}
        _founding.found(self._project, owner, _parameters.filled(self._project, named, owner.address), self._outbox())
        return _record.place(self._folder, self._chain.chain_id)

    def appoint(self, publisher: str, gateway: str) -> None:
        self._open().releases.set_publisher(publisher, gateway)

    def name(self, workers: dict[str, str]) -> None:
        (self._folder / f"{self._chain.chain_id}.book.json").write_text(json.dumps({"workers": workers}, indent=2))

    def rotate(self, epoch: dict[str, Any], *, lead: int, grace: int) -> None:
        self._open().service.rotate(Epoch(**epoch), lead=lead, grace=grace)

    def disable(self, name: str) -> None:
        self._open().fleet.disable(name)

    def enable(self, name: str) -> None:
        self._open().fleet.enable(name)

    def _open(self) -> Desk:
        return open_desk(_record.place(self._folder, self._chain.chain_id), self._chain, self._outbox())

    def _outbox(self) -> Outbox:
        return Outbox(Signers(lambda: self._accounts.test_accounts))


def stop(folder: Path, deployments: Path) -> bool:
    """Stop a fleet that was kept and remove what it left; tell whether there was one."""
    stopped = stop_kept(folder)
    if stopped:
        forget(deployments, CHAIN)
        shutil.rmtree(folder, ignore_errors=True)
    return stopped


def run(
    folder: Path, project: Any, accounts: Any, networks: Any, *, keep: bool, seed: int, as_json: bool, svg: Path | None
) -> int:
    """Tell the story; return the exit status: 0 if every line holds, 130 when interrupted."""
    from ape import chain  # noqa: PLC0415 - only means something once connected

    logger.set_level("ERROR")  # the screen tells the story, not Ape's transactions
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console.width = WIDTH
    shutil.rmtree(folder, ignore_errors=True)
    forget(project.path / "deployments", CHAIN)  # what a demonstration that was killed has left
    folder.mkdir(mode=0o700)
    port = PORT if port_is_free(PORT) else free_port()
    anvil = Anvil(port=port, chain_id=CHAIN, block_time=1, accounts=ACCOUNTS, log=folder / "anvil.log")
    try:
        with _interruptible(), ExitStack() as cleanup:
            cleanup.callback(forget, project.path / "deployments", CHAIN)
            cleanup.enter_context(anvil)
            cleanup.enter_context(networks.parse_network_choice(f"ethereum:fleet:{anvil.url}"))
            screen = cleanup.enter_context(Screen(console, list(STEPS)))
            scene = Scene(folder, anvil.url, People(project, accounts, chain), screen, seed=seed)
            cleanup.callback(scene.stop)
            lines = asyncio.run(tell(scene))
            screen.close()
            if svg is not None:
                _draw(svg, screen, lines)
            _report(console, lines, as_json=as_json)
            if keep:
                cleanup.pop_all()
                remember(folder, anvil, scene.fleet)
                _say_how_to_go_on(console, "" if port == PORT else f":{anvil.url}")
    except KeyboardInterrupt:
        console.print("Interrupted: everything is stopped.")
        return INTERRUPTED
    good = all(line.holds for line in lines)
    if good and not keep:
        shutil.rmtree(folder)
    elif not good:
        console.print(f"The workers' logs and journals are in {folder.name}/.")
    return 0 if good else 1


def _draw(path: Path, screen: Screen, lines: list[Line]) -> None:
    """Save the last screen and the closing table as a picture."""
    console = Console(record=True, width=DRAWN, file=io.StringIO())
    console.print(screen.picture())
    _report(console, lines, as_json=False)
    console.save_svg(str(path), title="make demo")


def _say_how_to_go_on(console: Console, address: str) -> None:
    console.print(
        f"The fleet goes on. Try [b]ape console --network ethereum:fleet{address}[/b] and [b]fleet.status()[/b]; "
        "end it with [b]ape run demo --stop[/b]."
    )


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end the demonstration as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _report(console: Console, lines: list[Line], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(line) for line in lines], indent=1))
        return
    table = Table("", "what happened", "checked against", title="The loop, once", title_justify="left")
    for line in lines:
        table.add_row("[green]✓[/green]" if line.holds else "[red]✗[/red]", line.claim, f"[dim]{line.evidence}[/dim]")
    console.print(table)
    kept = sum(line.holds for line in lines)
    console.print(f"{kept} of {len(lines)} lines hold." if kept < len(lines) else f"All {kept} lines hold.")

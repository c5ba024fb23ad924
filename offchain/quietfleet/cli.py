"""The `quietfleet` command: keys, consents and epochs prepared offline, workers run, their status shown.

Each command loads what it needs when it is called: what a sensor has no use for is not in its memory.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from quietfleet import __version__
from quietfleet.clock import SystemClock
from quietfleet.errors import QuietfleetError, StatusUnreadable
from quietfleet.lean import leave_out_openssl, speaks_tls
from quietfleet.settings import Settings, load_settings, passphrase

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from rich.table import Table

    from quietfleet.crypto import PrivateKey

SETTINGS = click.option(
    "--settings",
    "-s",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("worker.toml"),
    show_default=True,
    help="The worker's TOML file; QUIETFLEET_<SECTION>_<KEY> overrides a value.",
)


_UNSAID = {"name": "?", "id": "?", "running": False, "peers": "", "block": "", "configuration": ""}


class _Sentence(click.ClickException):
    """One sentence for the operator."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def show(self, file: Any = None) -> None:
        click.echo(f"quietfleet: {self.message}", err=True, file=file)


_MORE: Final = {
    "alarms": "quietfleet.commands.alarms",
    "audit": "quietfleet.commands.audit",
    "fleet": "quietfleet.owners.commands",
    "models": "quietfleet.commands.models",
    "monitor": "quietfleet.commands.monitor",
    "pipeline": "quietfleet.commands.pipeline",
    "recalibrate": "quietfleet.commands.recalibrate",
    "runs": "quietfleet.commands.runs",
    "store": "quietfleet.commands.store",
    "trace": "quietfleet.commands.trace",
}
"""Commands that are loaded when they are called: a worker that starts has no use for them."""


class _Group(click.Group):
    """The command line; what a sensor's build has no libraries for is named, and says what it needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_MORE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MORE:
            return super().get_command(ctx, cmd_name)
        try:
            found: click.Command = getattr(importlib.import_module(_MORE[cmd_name]), cmd_name)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("quietfleet"):
                raise
            return _absent(cmd_name, error.name or "")
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except QuietfleetError as error:
            raise _Sentence(str(error), error.exit_code) from error
        except ModuleNotFoundError as error:
            if (error.name or "quietfleet").startswith("quietfleet"):
                raise
            more = "install quietfleet[worker], [edge] or [gateway]"
            raise _Sentence(f"this build lacks {error.name}: {more}") from error
        except (sqlite3.Error, OSError) as error:
            from quietfleet.storage import fault_of  # noqa: PLC0415 - each command loads only what it needs

            fault = fault_of(error)
            if fault is None:
                raise
            raise _Sentence(str(fault), fault.exit_code) from error


def _absent(name: str, library: str) -> click.Command:
    """Stand in for a command of another build; whatever it is called with, it says which."""

    @click.command(name, context_settings={"ignore_unknown_options": True}, short_help="(not in this build)")
    @click.argument("_arguments", nargs=-1, type=click.UNPROCESSED)
    def absent(_arguments: tuple[str, ...]) -> None:
        build = "gateway" if name in {"models", "monitor", "pipeline", "runs", "store"} else "worker"
        raise _Sentence(f"`{name}` needs {library}, which this build lacks: pip install 'quietfleet[{build}]'")

    return absent


def _address(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Take an address as wallets show it; one mistyped letter breaks the checksum that its capitals are."""
    if not re.fullmatch("0x[0-9a-fA-F]{40}", value):
        raise click.BadParameter(f"{value} is no address: 0x and 40 hexadecimal digits")
    from quietfleet.crypto import checksum_address  # noqa: PLC0415

    checksummed = checksum_address(bytes.fromhex(value[2:]))
    if value[2:] not in {checksummed[2:], value[2:].lower(), value[2:].upper()}:
        raise click.BadParameter(f"{value} has a typing mistake: its capitals do not fit")
    return checksummed


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="How much to log, on stderr.",
)
def main(log_level: str) -> None:
    """Run and inspect the workers of a Quietfleet.

    \b
    A device's way into a fleet:
      quietfleet keygen porch.json                  its key, in a keystore (0600)
      quietfleet consent porch.json --kind sensor --owner 0x… --deployment deployments/1.json
                                                    its signed consent, for its owner
      ape run enrol --consent consent.json …        the owner enrols it and pays the fee
      quietfleet sensor -s porch.toml               it works

    The passphrase comes from QUIETFLEET_PASSPHRASE or the file in QUIETFLEET_PASSPHRASE_FILE.
    """  # noqa: D301 - click wants a real backspace there
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )


@main.command()
@click.argument("keystore", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--light", is_flag=True, help="Cheaper key derivation, for tests and demos.")
def keygen(keystore: Path, *, light: bool) -> None:
    """Draw a new messaging key into KEYSTORE and print the worker id it gives."""
    import secrets  # noqa: PLC0415

    from quietfleet.crypto import PrivateKey  # noqa: PLC0415
    from quietfleet.crypto.keystore import create_keystore  # noqa: PLC0415

    key = PrivateKey.generate(secrets.token_bytes)
    create_keystore(keystore, key, passphrase(os.environ), light=light)
    click.echo(key.public.id)


@main.command()
@click.argument("keystore", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--deployment", type=click.Path(path_type=Path, dir_okay=False), required=True, help="deployments/<chain-id>.json"
)
@click.option("--owner", required=True, callback=_address, help="The address that will own this worker.")
@click.option("--kind", type=click.Choice(["sensor", "processor", "gateway", "relay", "oracle"]), required=True)
@click.option(
    "--valid", type=click.IntRange(min=1), default=3600, show_default=True, help="Seconds the consent may be used."
)
def consent(keystore: Path, deployment: Path, owner: str, kind: str, valid: int) -> None:
    """Sign the worker's consent to be enrolled by OWNER; prints JSON for `ape run enrol`."""
    from quietfleet.chain.consent import Consent  # noqa: PLC0415
    from quietfleet.chain.deployment import load_deployment  # noqa: PLC0415
    from quietfleet.chain.types import Kind  # noqa: PLC0415
    from quietfleet.crypto.keystore import load_keystore  # noqa: PLC0415

    place = load_deployment(deployment)
    key = load_keystore(keystore, passphrase(os.environ))
    until = int(time.time()) + valid
    signed = Consent.sign(
        key, place.chain_id, place.service.address, owner=owner, kind=Kind[kind.upper()], deadline=until
    )
    click.echo(signed.to_json().decode())


@main.command("prepare-epoch")
@SETTINGS
@click.option(
    "--version",
    "version",
    type=click.IntRange(min=1, max=2**32 - 1),
    required=True,
    help="The configuration version to prepare: the current one plus 1.",
)
@click.option("--epoch-key", is_flag=True, help="Also draw the epoch key: for the oracle.")
def prepare_epoch(settings: Path, version: int, *, epoch_key: bool) -> None:
    """Draw this oracle's or gateway's keys for a coming configuration; prints the public part as JSON.

    The secrets stay in the worker's own database, also while it runs; what is printed goes into `ape run rotate`.
    """
    from quietfleet.workers.epoch import prepare_epoch as prepare  # noqa: PLC0415

    chosen, key = _load(settings)
    prepared = prepare(chosen, key, passphrase(os.environ), version, epoch_key=epoch_key)
    click.echo(msgspec.json.encode(prepared).decode())


@main.command("prepare-key")
@SETTINGS
@click.option(
    "--valid",
    type=click.IntRange(min=1),
    default=7 * 86_400,
    show_default=True,
    help="Seconds within which the owner may use the proof.",
)
def prepare_key(settings: Path, valid: int) -> None:
    """Draw this worker's next messaging key; prints its public proof as JSON for `ape run device rotate-key --proof`.

    The key waits beside the present one, in keystore.<epoch>.json, until its owner has put it on chain. Until then the
    same key is shown again, with a new deadline.
    """
    from quietfleet.workers._keys import prepare_key as prepare  # noqa: PLC0415

    chosen, key = _load(settings)
    click.echo(prepare(chosen, key, passphrase(os.environ), valid).to_json().decode())


@main.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def status(folders: tuple[Path, ...], *, as_json: bool) -> None:
    """Show the workers whose folders are given (or found below this one)."""
    found = [path for folder in folders or (Path(),) for path in sorted(folder.rglob("status.json"))]
    states = [_read_status(path) for path in found]
    if as_json:
        click.echo(json.dumps(states, indent=1))
        return
    if not states:
        raise _Sentence("no worker has written its status below here; name the workers' folders.")
    from rich.console import Console  # noqa: PLC0415 - not in a sensor's build, which has --json
    from rich.table import Column, Table  # noqa: PLC0415

    table = Table(
        *(
            Column(name, no_wrap=True)
            for name in ("worker", "id", "up", "links", "block", "config", "sessions", "model")
        )
    )
    for state in states:
        cells = (state["peers"], state["block"], state["configuration"], len(state.get("sessions", [])))
        shown = ("" if cell is None else str(cell) for cell in cells)
        up = "yes" if state["running"] else "no"
        table.add_row(state["name"], state["id"][:8] + "…", up, *shown, str(state.get("release", "")))
    Console().print(table)
    for state in states:
        if state["running"] and state.get("stale"):
            click.echo(f"{state['name']} works with nobody: {state.get('chain', 'the chain is out of sight')}")
    if any("replicas" in state for state in states):
        Console().print(_replicas([state for state in states if "replicas" in state]))


@main.command()
@SETTINGS
@click.option("--ready", is_flag=True, help="Also: whether it can do its work now.")
def healthy(settings: Path, *, ready: bool) -> None:
    """Tell by the exit code whether this worker is up and not stuck: for probes and supervisors."""
    from quietfleet.workers.health import require_alive, require_ready  # noqa: PLC0415

    chosen = load_settings(settings, os.environ)
    (require_ready if ready else require_alive)(chosen.path(chosen.worker.state), time.time())


@main.command()
@SETTINGS
def enode(settings: Path) -> None:
    """Print the enode URL under which others reach this relay: for their `peers` and the chain's bootstrap list."""
    from quietfleet.workers._network import relay_enode  # noqa: PLC0415

    chosen, key = _load(settings)
    click.echo(relay_enode(chosen.network, key))


@main.command()
@SETTINGS
def relay(settings: Path) -> None:
    """Run a relay: it carries everyone's envelopes and works with nobody."""
    from quietfleet.workers.relay import Relay  # noqa: PLC0415

    chosen, key = _load(settings)
    _run(lambda: Relay(chosen, key, SystemClock()))


def _agent_command(name: str, help_text: str) -> None:
    @main.command(name, help=help_text)
    @SETTINGS
    def command(settings: Path) -> None:
        lean = name == "sensor" and not speaks_tls(load_settings(settings, os.environ).chain)
        if lean:
            leave_out_openssl()
        from quietfleet.workers.start import make_worker  # noqa: PLC0415

        chosen, key = _load(settings)
        _run(lambda: make_worker(name, chosen, key, SystemClock(), passphrase(os.environ)), lean=lean)


_agent_command("oracle", "Run the Dispatch Oracle: brokers anonymous deals, hands out epoch keys.")
_agent_command("gateway", "Run a gateway (T3): trains models and anchors releases on chain.")
_agent_command("processor", "Run a processor (T2): answers sensors, watches for drift.")
_agent_command("sensor", "Run a sensor (T1): sends readings, takes recommendations.")


def _replicas(states: list[dict[str, Any]]) -> Table:
    """Show, of workers that are several processes, who is there, who leads, and how many peers are whose."""
    from rich.table import Column, Table  # noqa: PLC0415

    table = Table(*(Column(name, no_wrap=True) for name in ("worker", "replica", "leads", "members", "peers", "store")))
    for state in states:
        one = state["replicas"]
        leads, members = "yes" if one["leads"] else "no", " ".join(one["members"])
        table.add_row(state["name"], one["id"], leads, members, str(one["peers"]), one["store"].partition(":")[0])
    return table


def _read_status(path: Path) -> dict[str, Any]:
    """Read what a worker said last; one that was killed could not say that it stopped."""
    try:
        state: dict[str, Any] = {**_UNSAID, **json.loads(path.read_text())}
        return {**state, "running": state["running"] and _lives(state["pid"])}
    except (OSError, ValueError, TypeError) as error:
        raise StatusUnreadable(f"{path}: {error}") from error


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _load(path: Path) -> tuple[Settings, PrivateKey]:
    from quietfleet.crypto.keystore import load_keystore  # noqa: PLC0415

    settings = load_settings(path, os.environ)
    return settings, load_keystore(settings.path(settings.worker.keystore), passphrase(os.environ))


def _run(make: Callable[[], Any], *, lean: bool = False) -> None:
    """Run a worker on uvloop, which wants OpenSSL, or on the loop of Python."""
    import asyncio  # noqa: PLC0415

    async def work() -> None:
        await make().run()

    with asyncio.Runner(loop_factory=None if lean else _fast_loop) as runner:
        runner.run(work())


def _fast_loop() -> AbstractEventLoop:
    import uvloop  # noqa: PLC0415

    loop: AbstractEventLoop = uvloop.new_event_loop()
    return loop


if __name__ == "__main__":
    main()

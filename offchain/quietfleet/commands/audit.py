"""`quietfleet audit …`: is a worker's trail what it was, and what an outsider can be shown of it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quietfleet.errors import AuditBroken, ProofRefused
from quietfleet.settings import Settings, load_settings
from quietfleet.storage import AuditAnchors, AuditLog, AuditProof, Database, LogAnchor

if TYPE_CHECKING:
    from quietfleet.chain.anchors import KeptAnchor
    from quietfleet.chain.deployment import Deployment

_FILE = click.Path(path_type=Path, dir_okay=False)
_settings = click.option(
    "--settings", "-s", type=_FILE, default=Path("worker.toml"), show_default=True, help="The worker's TOML file."
)
_json = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group()
def audit() -> None:
    """Check a worker's audit trail, and prove its entries to others.

    \b
      quietfleet audit verify -s gateway.toml --chain      every link and every root, and what the chain says of them
      quietfleet audit show -s gateway.toml --kind anchored
      quietfleet audit prove 1234 -s gateway.toml > proof.json
      quietfleet audit check proof.json --deployment deployments/1.json --rpc https://…

    It reads beside a running worker. Exit code 4: the trail is not what it was, or a proof does not hold.
    """  # noqa: D301 - click wants a real backspace there


@audit.command()
@_settings
@click.option("--chain", "on_chain", is_flag=True, help="Also hold the newest anchor against the chain.")
@_json
def verify(settings: Path, *, on_chain: bool, as_json: bool) -> None:
    """Find any edit, deletion, insertion or change of order, and say where."""
    chosen = load_settings(settings, os.environ)
    with _observed(chosen) as database:
        anchors = AuditAnchors(database, AuditLog(database, create=False))
        found: dict[str, Any] = {"entries": anchors.verify()}
        kept = [one for one in anchors.all() if one.block is not None]
        if kept:
            found["anchor"] = {"number": kept[-1].number, "entries": kept[-1].size, "block": kept[-1].block}
        if on_chain:
            name = anchors.known_name
            if not kept or name is None:
                raise AuditBroken("it was never anchored, so the chain says nothing of it")
            found["chain"] = asyncio.run(_same(_place(chosen), chosen.chain.rpc, name, kept[-1]))
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"{found['entries']} entries, each fits the one before it")
    if kept:
        click.echo(f"the first {kept[-1].size} are those anchored as number {kept[-1].number}, block {kept[-1].block}")
    if on_chain:
        click.echo(f"the chain has had that anchor since {found['chain']['at']}")


@audit.command()
@_settings
@click.option("--kind", default=None, help="Entries of this kind alone.")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Entries above this number.")
def show(settings: Path, kind: str | None, after: int) -> None:
    """Print entries, a line of JSON each, oldest first."""
    with _observed(load_settings(settings, os.environ)) as database:
        for entry in AuditLog(database, create=False).entries(after=after, kind=kind):
            line = {"number": entry.sequence, "at": entry.at, "kind": entry.kind, "detail": entry.detail}
            click.echo(json.dumps(line))


@audit.command()
@click.argument("number", type=click.IntRange(min=1))
@_settings
def prove(number: int, settings: Path) -> None:
    """Print the proof that entry NUMBER was in the log when it was anchored; it shows that entry and no other."""
    chosen = load_settings(settings, os.environ)
    place = _place(chosen)
    with _observed(chosen) as database:
        anchors = AuditAnchors(database, AuditLog(database, create=False))
        anchors.verify()
        contract = place.audit.address if place.audit else ""
        proof = anchors.prove(number, chain_id=place.chain_id, contract=contract)
    click.echo(proof.to_json().decode())


@audit.command()
@click.argument("proof", type=click.Path(path_type=Path, dir_okay=False, exists=True, allow_dash=True))
@click.option("--deployment", type=_FILE, help="With --rpc: also ask the chain, by this record of the contracts.")
@click.option("--rpc", envvar="QUIETFLEET_CHAIN_RPC", show_envvar=True, help="Any JSON-RPC endpoint of that chain.")
@_json
def check(proof: Path, deployment: Path | None, rpc: str | None, *, as_json: bool) -> None:
    """Check a PROOF somebody gave you; with --deployment and --rpc, that the chain has its anchor, too."""
    from quietfleet.chain.deployment import load_deployment  # noqa: PLC0415 - each command loads only what it needs

    with click.open_file(str(proof), "rb") as file:
        given = AuditProof.from_json(file.read())
    given.check()
    found: dict[str, Any] = {"number": given.sequence, "at": given.at, "kind": given.kind, "detail": given.detail}
    if deployment is not None and rpc:
        place = load_deployment(deployment)
        if place.audit is None or (place.chain_id, place.audit.address) != (given.chain_id, given.contract):
            raise ProofRefused("it is about another deployment")
        found["chain"] = asyncio.run(_held(place, rpc, given))
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"entry {given.sequence}, {given.kind}: {json.dumps(given.detail)}")
    if "chain" in found:
        click.echo(f"was in the log of {given.keeper} when it was anchored, {found['chain']['at']}")
    else:
        click.echo(
            f"holds if in block {given.block} of chain {given.chain_id}, at {given.contract}, "
            f"{given.keeper} anchored {given.commitment} as number {given.number} of log {given.log}"
        )


def _observed(settings: Settings) -> Database:
    return Database.observe(settings.path(settings.worker.state) / "worker.db")


def _place(settings: Settings) -> Deployment:
    from quietfleet.chain.deployment import load_deployment  # noqa: PLC0415

    return load_deployment(settings.path(settings.chain.deployment))


async def _same(place: Deployment, rpc: str, log: bytes, anchor: LogAnchor) -> dict[str, Any]:
    """Hold a log's newest anchor against the chain's; `AuditBroken` when that is another."""
    from quietfleet.chain.anchors import AnchorContract  # noqa: PLC0415
    from quietfleet.chain.rpc import ChainClient  # noqa: PLC0415

    async with ChainClient(rpc, place) as client:
        newest = await AnchorContract(client).newest(anchor.keeper, log)
    if newest.number != anchor.number:
        raise AuditBroken(f"the chain's newest anchor is number {newest.number}, this log's {anchor.number}")
    if newest.digest != anchor.commitment[: len(newest.digest)]:
        raise AuditBroken(f"the chain has another anchor number {anchor.number}")
    return _told(newest)


async def _held(place: Deployment, rpc: str, proof: AuditProof) -> dict[str, Any]:
    """Find a proof's anchor on chain; `ProofRefused` when it is not there."""
    from quietfleet.chain.anchors import AnchorContract  # noqa: PLC0415
    from quietfleet.chain.rpc import ChainClient  # noqa: PLC0415

    async with ChainClient(rpc, place) as client:
        made = await AnchorContract(client).made(proof.keeper, bytes.fromhex(proof.log), proof.number, proof.block)
    if made is None or made.digest.hex() != proof.commitment:
        raise ProofRefused(f"the chain has no such anchor in block {proof.block}")
    return _told(made)


def _told(anchor: KeptAnchor) -> dict[str, Any]:
    from datetime import UTC, datetime  # noqa: PLC0415

    return {"number": anchor.number, "at": datetime.fromtimestamp(anchor.at, UTC).isoformat()}

"""Compiles and deploys the contracts without Ape, for fleets and tests that start and end in one process."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eth_abi.abi import encode

from quietfleet.chain.abi import canonical_type
from quietfleet.chain.deployment import ContractRecord, Deployment
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.wallet import Wallet
from quietfleet.errors import TestbedError

ROOT: Final = Path(__file__).parents[3]
"""The repository: contracts and compiler are not part of the installed package."""

_SOURCES: Final = {
    "Service": "contracts/Service.sol",
    "ModelReleases": "contracts/releases/ModelReleases.sol",
    "AuditAnchor": "contracts/audit/AuditAnchor.sol",
}
_SETTINGS: Final = {  # as in foundry.toml
    "evmVersion": "cancun",
    "viaIR": True,
    "optimizer": {"enabled": True, "runs": 1_000_000},
    "remappings": ["@openzeppelin/contracts=node_modules/@openzeppelin/contracts"],
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
}


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled contract."""

    abi: tuple[dict[str, Any], ...]
    bytecode: bytes

    def with_arguments(self, *arguments: Any) -> bytes:
        """Return the creation code with these constructor arguments."""
        inputs = next((entry["inputs"] for entry in self.abi if entry["type"] == "constructor"), ())
        return self.bytecode + encode([canonical_type(one) for one in inputs], arguments)


def compile_contracts(cache: Path) -> dict[str, Artifact]:
    """Compile the contracts, or take them from `cache` (a folder) if the sources are as they were."""
    kept = cache / f"contracts-{_fingerprint()}.json"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be compiling just this: it takes a quarter of a minute
        if not kept.exists():
            unfinished = kept.with_suffix(".part")
            unfinished.write_text(json.dumps(_compile()))
            unfinished.rename(kept)
    output = json.loads(kept.read_text())
    return {name: _artifact(output["contracts"][source][name]) for name, source in _SOURCES.items()}


async def deploy(
    url: str, chain_id: int, artifacts: dict[str, Artifact], owner_key: bytes, *, fee: int = 0, approver: str = ""
) -> Deployment:
    """Deploy the contracts, owned by the account of `owner_key`, which approves releases unless another one is named.

    The fee never exceeds ten times what it begins with.
    """
    blank = ContractRecord("0x" + 40 * "0", (), 0)
    async with ChainClient(url, Deployment(chain_id, blank, blank)) as client:
        wallet = Wallet(owner_key, client)
        service = await _create(wallet, artifacts["Service"], (wallet.address, fee, 10 * fee))
        terms = (wallet.address, service.address, approver or wallet.address)
        others = (
            _create(wallet, artifacts["ModelReleases"], terms),
            _create(wallet, artifacts["AuditAnchor"], ()),
        )
        releases, audit = await asyncio.gather(*others)
    return Deployment(chain_id, service, releases, audit)


async def _create(wallet: Wallet, artifact: Artifact, arguments: Sequence[Any]) -> ContractRecord:
    address, block = await wallet.create(artifact.with_arguments(*arguments))
    return ContractRecord(address, artifact.abi, block)


def _compile() -> dict[str, Any]:
    sources = {source: {"content": (ROOT / source).read_text()} for source in _SOURCES.values()}
    job = {"language": "Solidity", "sources": sources, "settings": _SETTINGS}
    done = subprocess.run(  # noqa: S603 - our own compiler and sources
        [str(ROOT / "tools" / "solc"), "--base-path", ".", "--include-path", "node_modules", "--standard-json"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode != 0:
        raise TestbedError(f"the compiler ended with {done.returncode}: {done.stderr[-500:]}")
    output: dict[str, Any] = json.loads(done.stdout)
    errors = [one["formattedMessage"] for one in output.get("errors", ()) if one["severity"] == "error"]
    if errors:
        raise TestbedError("\n".join(errors))
    return output


def _artifact(compiled: dict[str, Any]) -> Artifact:
    return Artifact(tuple(compiled["abi"]), bytes.fromhex(compiled["evm"]["bytecode"]["object"]))


def _fingerprint() -> str:
    digest = hashlib.sha256(json.dumps([_SOURCES, _SETTINGS]).encode())
    for path in sorted((ROOT / "contracts").rglob("*.sol")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]

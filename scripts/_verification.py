"""Source verification: the compiler's standard JSON input, from which anyone can make the deployed bytecode again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from eth_abi import encode
from scripts import _parameters

from quietfleet.errors import StaleBuild


def prepare(project: Any) -> dict[str, dict[str, Any]]:
    """Compile each contract from its sources as they are; StaleBuild if that is not what Ape would deploy."""
    return {name: _prepare(project, name) for name in _parameters.ARGUMENTS}


def write(folder: Path, project: Any, deployment: dict[str, Any], prepared: dict[str, dict[str, Any]]) -> None:
    """Write for each contract what an explorer asks for: `<name>.input.json`, and `<name>.json` with the rest."""
    folder.mkdir()
    service = deployment["contracts"]["Service"]["address"]
    for name, one in prepared.items():
        values = _parameters.arguments(project, name, deployment["parameters"] | {"service": service})
        kinds = [str(given.type) for given in project.get_contract(name).contract_type.constructor.inputs]
        facts = {
            "address": deployment["contracts"][name]["address"],
            "chain_id": deployment["chain_id"],
            "contract": one["contract"],
            "compiler": one["compiler"],
            "settings": one["input"]["settings"],
            "constructor_arguments": f"0x{encode(kinds, values).hex()}",
        }
        (folder / f"{name}.json").write_text(json.dumps(facts, indent=2) + "\n")
        (folder / f"{name}.input.json").write_text(json.dumps(one["input"], indent=1) + "\n")


def _prepare(project: Any, name: str) -> dict[str, Any]:
    kind = project.get_contract(name).contract_type
    made = _kept(project, name) or _made(project, name, kind.source_id)
    if made["bytecode"] != kind.deployment_bytecode.bytecode.removeprefix("0x"):
        raise StaleBuild(name)
    return made


def _kept(project: Any, name: str) -> dict[str, Any] | None:
    """Take what was compiled before, unless a source or a setting has changed since: compiling takes a while."""
    path = _keep(project, name)
    if not path.exists():
        return None
    made: dict[str, Any] = json.loads(path.read_text())
    try:
        now = made["input"] | {"sources": _contents(project, list(made["input"]["sources"]))}
    except FileNotFoundError:
        return None
    return made if made["input"] == now | {"settings": now["settings"] | _settings(project)} else None


def _made(project: Any, name: str, source: str) -> dict[str, Any]:
    settings = _settings(project) | {"outputSelection": {source: {name: ["evm.bytecode.object", "metadata"]}}}
    job = {"language": "Solidity", "sources": _contents(project, [source]), "settings": settings}
    compiled = _compile(project, job)["contracts"][source][name]
    metadata = json.loads(compiled["metadata"])
    made = {
        "contract": f"{source}:{name}",
        "compiler": f"v{metadata['compiler']['version']}",
        "input": job | {"sources": _contents(project, sorted(metadata["sources"]))},
        "bytecode": compiled["evm"]["bytecode"]["object"],
    }
    _keep(project, name).write_text(json.dumps(made))
    return made


def _keep(project: Any, name: str) -> Path:
    return Path(project.path) / ".build" / f"{name}.verified.json"


def _settings(project: Any) -> dict[str, Any]:
    """Say in the compiler's words what ape-config.yaml says in Ape's."""
    given = project.config.solidity
    return {
        "optimizer": {"enabled": given.optimize, "runs": given.optimization_runs},
        "viaIR": given.via_ir,
        "evmVersion": given.evm_version,
        "remappings": [str(one) for one in given.import_remapping],
    }


def _contents(project: Any, sources: list[str]) -> dict[str, dict[str, str]]:
    return {source: {"content": (Path(project.path) / source).read_text()} for source in sources}


def _compile(project: Any, job: dict[str, Any]) -> dict[str, Any]:
    from solcx.install import get_executable  # noqa: PLC0415 - what Ape itself compiles with; slow to import

    done = subprocess.run(  # noqa: S603 - our own compiler and sources
        [str(get_executable(project.config.solidity.version)), "--base-path", ".", "--standard-json"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        cwd=project.path,
        check=True,
    )
    output: dict[str, Any] = json.loads(done.stdout)
    if wrong := [one["formattedMessage"] for one in output.get("errors", ()) if one["severity"] == "error"]:
        raise StaleBuild("\n".join(wrong))
    return output

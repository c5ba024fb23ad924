"""Compiles the contracts that only tests deploy, which lie in `solidity`, apart from those a service deploys."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path

from ape.contracts import ContractContainer
from ethpm_types import ContractType

HERE = Path(__file__).parent
COMPILER = HERE.parents[1] / "tools" / "solc"


@cache
def stand_in(name: str) -> ContractContainer:
    found = _compiled()[f"{name}.sol"][name]
    return ContractContainer(
        ContractType(
            contractName=name,
            sourceId=f"tests/contracts/solidity/{name}.sol",
            abi=found["abi"],
            deploymentBytecode={"bytecode": "0x" + found["evm"]["bytecode"]["object"]},
            runtimeBytecode={"bytecode": "0x" + found["evm"]["deployedBytecode"]["object"]},
        )
    )


@cache
def _compiled() -> dict[str, dict[str, dict]]:
    task = {
        "language": "Solidity",
        "sources": {path.name: {"content": path.read_text()} for path in (HERE / "solidity").glob("*.sol")},
        "settings": {
            "evmVersion": "cancun",
            "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}},
        },
    }
    run = subprocess.run(
        [COMPILER, "--standard-json"], input=json.dumps(task).encode(), capture_output=True, check=True
    )
    output = json.loads(run.stdout)
    assert "contracts" in output, output.get("errors")
    return output["contracts"]

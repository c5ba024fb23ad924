"""What `ape console` knows beyond Ape: `fleet` and `service` of the connected chain."""

from __future__ import annotations

from typing import Any

from quietfleet.console import Absent, accounts_at_hand, open_fleet
from quietfleet.errors import DeploymentError


def ape_init_extras(project: Any, chain: Any, accounts: Any) -> dict[str, Any]:
    try:
        fleet, service = open_fleet(project.path / "deployments", chain, lambda: accounts_at_hand(chain, accounts))
    except DeploymentError as error:
        absent = Absent(f"There is no fleet on chain {chain.chain_id} to speak to. {error}")
        return {"fleet": absent, "service": absent}
    return {"fleet": fleet, "service": service}

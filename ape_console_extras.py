"""What `ape console` knows beyond Ape: `fleet`, `service` and `releases` of the connected chain."""

from __future__ import annotations

from typing import Any

from quietfleet.console import Absent, Outbox, Signers, accounts_at_hand, open_desk
from quietfleet.errors import QuietfleetError


def ape_init_extras(project: Any, chain: Any, accounts: Any) -> dict[str, Any]:
    record = project.path / "deployments" / f"{chain.chain_id}.json"
    try:
        desk = open_desk(record, chain, Outbox(Signers(lambda: accounts_at_hand(chain, accounts))))
    except QuietfleetError as error:
        absent = Absent(f"There is no fleet on chain {chain.chain_id} to speak to. {error}")
        return {"fleet": absent, "service": absent, "releases": absent}
    return {"fleet": desk.fleet, "service": desk.service, "releases": desk.releases}

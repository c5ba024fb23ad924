"""What `deploy` and `migrate` have in common: build, deploy, write down, and name the roles."""

from __future__ import annotations

from typing import Any

from scripts import _deployment, _record, _verification
from scripts._common import connected, deployments

from quietfleet.console import DEVELOPMENT_CHAINS, Desk, Outbox


def found(project: Any, account: Any, parameters: dict[str, Any], outbox: Outbox) -> Desk:
    """Deploy with complete parameters; an older record is kept under a number."""
    chain_id = account.provider.chain_id
    prepared = _prepared(project, chain_id)
    deployment = _deployment.deploy(project, account, parameters, outbox)
    _record.archive(deployments(), chain_id)
    path = _record.write(deployments(), deployment)
    if prepared:
        _verification.write(_record.verification(path), project, deployment, prepared)
    desk = connected(outbox)
    _deployment.appoint(desk, parameters)
    return desk


def rehearse(project: Any, account: Any, parameters: dict[str, Any], outbox: Outbox) -> tuple[str, str]:
    """Check the build and estimate the deployment; return where Service and ModelReleases would stand."""
    _prepared(project, account.provider.chain_id)
    return _deployment.rehearse(project, account, parameters, outbox)


def _prepared(project: Any, chain_id: int) -> dict[str, dict[str, Any]]:
    """Nobody verifies sources on a chain that is gone tomorrow."""
    return {} if chain_id in DEVELOPMENT_CHAINS else _verification.prepare(project)

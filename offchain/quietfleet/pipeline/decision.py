"""Whether a candidate should go out in place of the champion."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RedeployRule:
    """Limits in °C, and by which share a candidate must beat the champion."""

    degrade_above: float = 1.2
    accept_below: float = 2.5
    margin: float = 0.02


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to deploy, and the sentence that says why."""

    deploy: bool
    reason: str


def decide(candidate_rmse: float, champion_rmse: float | None, *, rule: RedeployRule = RedeployRule()) -> Decision:
    """Redeploy when the champion got bad, the candidate is good, and clearly better on the same days.

    Our reading of the paper's "when the RMSE is below a set threshold a new deployment is triggered". Without a
    champion being good is enough.
    """
    if not candidate_rmse < rule.accept_below:
        return Decision(deploy=False, reason=f"candidate RMSE {candidate_rmse:.3f} is not below {rule.accept_below}")
    if champion_rmse is None:
        return Decision(deploy=True, reason="there is no champion yet")
    if not champion_rmse > rule.degrade_above:
        return Decision(deploy=False, reason=f"champion RMSE {champion_rmse:.3f} is still within {rule.degrade_above}")
    if not candidate_rmse < champion_rmse * (1 - rule.margin):
        return Decision(
            deploy=False, reason=f"candidate {candidate_rmse:.3f} does not beat {champion_rmse:.3f} clearly"
        )
    return Decision(deploy=True, reason=f"candidate {candidate_rmse:.3f} replaces champion {champion_rmse:.3f}")

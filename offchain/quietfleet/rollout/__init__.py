"""A release's way through the fleet, without I/O: gates, waves, the fleet's machine, the device's, and reports.

What is decided here is driven by the gateway (`workers/_rollout.py`) and by processors (`workers/_model_slot.py`).
"""

from quietfleet.rollout.device import Device, Install, Offer, Slots, Ticket
from quietfleet.rollout.fleet import Condition, Stage, Step, next_step
from quietfleet.rollout.gates import Counts, Gate, Verdict, judge
from quietfleet.rollout.plan import Plan, make_plan
from quietfleet.rollout.reports import PASSING, Outcome, OutcomeReport, Reason, SignedReport, report_root

__all__ = [
    "PASSING",
    "Condition",
    "Counts",
    "Device",
    "Gate",
    "Install",
    "Offer",
    "Outcome",
    "OutcomeReport",
    "Plan",
    "Reason",
    "SignedReport",
    "Slots",
    "Stage",
    "Step",
    "Ticket",
    "Verdict",
    "judge",
    "make_plan",
    "next_step",
    "report_root",
]

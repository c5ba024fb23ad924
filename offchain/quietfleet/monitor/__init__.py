"""Watching data and models at the edge: drift, integrity, peers, performance; pure functions, the time passed in.

`assess` is the whole watch in one call; the modules are its parts.

Names are loaded as they are asked for: sensors share `recalibration` and have no numpy.
"""

from typing import TYPE_CHECKING

from quietfleet.lazy import handed_on

if TYPE_CHECKING:
    from quietfleet.monitor.assessment import align, assess
    from quietfleet.monitor.drift import Band, Baseline, FeatureBaseline, band, drift_pct, fleet_drift, wasserstein
    from quietfleet.monitor.integrity import (
        DEFAULT_RULES,
        ChannelRules,
        Finding,
        FindingKind,
        clock_skew,
        inspect,
        outages,
        site_outages,
    )
    from quietfleet.monitor.peers import PeerDrift, PeerReference
    from quietfleet.monitor.performance import Performance, combined
    from quietfleet.monitor.verdict import DeviceEvidence, DeviceVerdict, FleetVerdict, Verdict, judge

__all__ = [
    "DEFAULT_RULES",
    "Band",
    "Baseline",
    "ChannelRules",
    "DeviceEvidence",
    "DeviceVerdict",
    "FeatureBaseline",
    "Finding",
    "FindingKind",
    "FleetVerdict",
    "PeerDrift",
    "PeerReference",
    "Performance",
    "Verdict",
    "align",
    "assess",
    "band",
    "clock_skew",
    "combined",
    "drift_pct",
    "fleet_drift",
    "inspect",
    "judge",
    "outages",
    "site_outages",
    "wasserstein",
]

__getattr__ = handed_on(
    __name__,
    {
        "assessment": ("align", "assess"),
        "drift": ("Band", "Baseline", "FeatureBaseline", "band", "drift_pct", "fleet_drift", "wasserstein"),
        "integrity": (
            "DEFAULT_RULES",
            "ChannelRules",
            "Finding",
            "FindingKind",
            "clock_skew",
            "inspect",
            "outages",
            "site_outages",
        ),
        "peers": ("PeerDrift", "PeerReference"),
        "performance": ("Performance", "combined"),
        "verdict": ("DeviceEvidence", "DeviceVerdict", "FleetVerdict", "Verdict", "judge"),
    },
)

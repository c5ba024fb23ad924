"""Watching data and models at the edge: drift, integrity, peers, performance; pure functions, the time passed in.

`assess` is the whole watch in one call; the modules are its parts.
"""

from quietfleet.monitor.assessment import align, assess
from quietfleet.monitor.drift import Band, Baseline, FeatureBaseline, band, drift_pct, fleet_drift, wasserstein
from quietfleet.monitor.integrity import DEFAULT_RULES, ChannelRules, Finding, FindingKind, inspect, site_outages
from quietfleet.monitor.peers import PeerDrift, PeerReference
from quietfleet.monitor.performance import Performance, RollingPerformance, combined
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
    "RollingPerformance",
    "Verdict",
    "align",
    "assess",
    "band",
    "combined",
    "drift_pct",
    "fleet_drift",
    "inspect",
    "judge",
    "site_outages",
    "wasserstein",
]

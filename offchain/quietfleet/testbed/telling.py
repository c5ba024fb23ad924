"""Journal entries as sentences."""

from __future__ import annotations

from typing import Final

from quietfleet.storage import AuditEntry

_TOLD: Final[dict[str, str]] = {
    "configuration": "reads configuration {version} from the contract",
    "epoch-key": "receives epoch key {version}, as committed on chain",
    "epoch-retired": "erases every key of version {version}",
    "deal-accepted": "accepts a deal, not knowing with whom",
    "brokered": "hears both accept and introduces one to the other",
    "introduced": "is introduced to its counterpart and checks it on chain",
    "session-open": "sets up a session",
    "severed": "severs: {reason}",
    "alarm": "raises an alarm: {cause} {channel}",
    "quarantined": "quarantines a sensor: {reason}",
    "released": "takes a sensor out of quarantine",
    "recalibrating": "is asked to recalibrate: {reason}",
    "recalibrated": "has a sensor recalibrated: {did}",
    "drift": "sees {percent:.0f} % drift and asks the gateway",
    "drift-shared": "judges that all sound devices share the drift → retrain",
    "training": "trains on {rows} readings",
    "trained": "has a candidate, RMSE {rmse} °C: {reason}",
    "release-proposed": "proposes a release on chain",
    "release-approved": "approves release {sequence}",
    "release-opened": "opens wave {wave} of {of} of release {sequence}",
    "release-completed": "closes release {sequence}: {succeeded} took it up, {failed} did not, {silent} silent",
    "release-stopped": "stops release {sequence}: {failed} turned it down",
    "release-installed": "verifies and installs release {sequence}",
    "switched-off": "learns that its owner has switched it off",
    "started": "starts",
}


def told(entry: AuditEntry) -> str | None:
    """A journal entry as a sentence; None for what would only scroll by."""
    if entry.kind == "recommendation" and entry.detail["forecast"] is not None and entry.sequence % 10 == 0:
        detail = entry.detail
        return f"is advised: {detail['advice']} ({detail['forecast']} °C in 3 h, {detail['confidence']:.0%} sure)"
    template = _TOLD.get(entry.kind)
    return template.format(**entry.detail) if template else None

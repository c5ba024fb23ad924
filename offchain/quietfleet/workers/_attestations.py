"""What processors attest of recalibrations: from when on a device's readings at the gateway are other ones.

The gateway believes a processor of its own devices alone, by that processor's signature, and learns no more of the
sensor than the name it has for it anyway. A word of old sets nothing back, and one about the future counts from now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from quietfleet.monitor.recalibration import Did
from quietfleet.session import Received
from quietfleet.workers._outcomes import signed_by
from quietfleet.workers.messages import CLOCK_SKEW, AttestationHeard, RecalibrationAttested

if TYPE_CHECKING:
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._veil import Veil


class Attestations:
    """Takes them in, in the caller's transaction."""

    def __init__(self, runtime: Runtime, veil: Veil) -> None:
        self._runtime = runtime
        self._veil = veil

    def take(self, event: Received, body: RecalibrationAttested) -> None:
        """Have a device's readings judged anew from then on, on record; acknowledged also of a device without any."""
        attested = body.signed.attested
        if not signed_by(self._runtime, event.peer, attested.digest, body.signed.signature):
            self._runtime.metrics.count("attestations_refused", reason="forged")
            return
        device = self._veil.find(event.peer, attested.device)
        if device is not None and attested.did is not Did.REFUSED:
            since = min(attested.since, self._runtime.data_clock.now() + CLOCK_SKEW)
            self._veil.saw(msgspec.structs.replace(device, restarted=since))
            self._runtime.note(
                "recalibrated",
                device=self._veil.name(event.peer, attested.device, self._veil.window(since)),
                processor=self._runtime.trail.who(event.peer),
                did=attested.did.value,
                since=since,
                in_force={channel: list(one) for channel, one in attested.in_force.items()},
                evidence=attested.evidence.hex(),
            )
        self._runtime.messenger.reply(event, AttestationHeard(attested.evidence))

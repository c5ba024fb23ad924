"""A processor's line to the gateway: one request of a kind at a time, asked again when it finds no answer."""

from __future__ import annotations

import msgspec

from quietfleet.session import GATEWAY
from quietfleet.workers._runtime import Runtime

ANSWER_WITHIN = 20.0


class Uplink:
    """The session with the gateway of the configuration in force."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @property
    def gateway(self) -> str | None:
        """The gateway we are in session with."""
        configuration = self._runtime.messenger.epochs.in_force(self._runtime.clock.now())
        if configuration is None or self._runtime.messenger.session(configuration.gateway) is None:
            return None
        return configuration.gateway

    def reach(self) -> None:
        """Set up the session if there is none."""
        card = self._runtime.membership.gateway_card()
        if card is not None and self.gateway is None:
            self._runtime.messenger.connect(card, GATEWAY)

    def free(self, about: str) -> bool:
        """Tell whether the gateway can be asked about something now: is there, and owes no answer about it."""
        gateway = self.gateway
        return gateway is not None and not self._runtime.messenger.asks(gateway, about)

    def ask(self, about: str, body: msgspec.Struct, *expects: type[msgspec.Struct]) -> None:
        """Send a request; the line is taken until it is answered or expires, also across a restart."""
        gateway = self.gateway
        if gateway is not None:
            self._runtime.messenger.request(gateway, body, expects, ANSWER_WITHIN, about)

    def tell(self, body: msgspec.Struct) -> None:
        """Tell the gateway something that needs no answer, if we are in session with it."""
        gateway = self.gateway
        if gateway is not None:
            self._runtime.messenger.notify(gateway, body)

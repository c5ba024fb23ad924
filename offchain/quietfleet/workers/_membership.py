"""Membership in an epoch: a session with the oracle, the epoch key, and the cards of oracle and gateway.

Each configuration version that brings new keys goes through the same steps, ahead of its activation where there is
time: card of the oracle seen → session with the oracle → epoch key asked for and granted → member.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quietfleet.chain.types import Configuration
from quietfleet.errors import HandshakeRefused
from quietfleet.session import ORACLE, Card, Event, Expired, Received
from quietfleet.workers.messages import EpochKeyGrant, EpochKeyRequest

if TYPE_CHECKING:
    from quietfleet.workers._runtime import Runtime

CONTEXT = "epoch key "
ASK_WITHIN = 20.0  # three tries


class Membership:
    """Keeps one worker a member of every live configuration version."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._cards: dict[bytes, Card] = {}

    def card_seen(self, card: Card) -> None:
        """Remember a service card that matches the chain."""
        self._cards[card.digest] = card

    def gateway_card(self) -> Card | None:
        """The gateway's card under the configuration in force, once seen."""
        configuration = self._runtime.messenger.epochs.in_force(self._runtime.clock.now())
        return self._cards.get(configuration.gateway_card_digest) if configuration else None

    @property
    def complete(self) -> bool:
        """Whether we hold the epoch key of the configuration in force and reach its oracle."""
        messenger = self._runtime.messenger
        configuration = messenger.epochs.in_force(self._runtime.clock.now())
        return (
            configuration is not None
            and messenger.epochs.epoch_key(configuration.epoch) is not None
            and messenger.session(configuration.oracle) is not None
        )

    @property
    def keyed(self) -> bool:
        """Whether we hold the epoch key of the configuration in force: what sessions between workers need."""
        epochs = self._runtime.messenger.epochs
        configuration = epochs.in_force(self._runtime.clock.now())
        return configuration is not None and epochs.epoch_key(configuration.epoch) is not None

    def tick(self) -> None:
        """Take the next step for every live version that is not complete yet."""
        runtime = self._runtime
        if not runtime.registry.usable(runtime.id):
            return
        for configuration in (runtime.messenger.epochs.previous, runtime.messenger.epochs.latest):
            if configuration is None or not runtime.registry.can_cooperate(runtime.id, configuration.oracle):
                continue
            epochs = runtime.messenger.epochs
            if configuration.epoch in epochs.live(runtime.clock.now()) and epochs.secrets(configuration.epoch):
                self._step(configuration)

    def on_event(self, event: Event) -> bool:
        """Take what concerns membership; tell whether it did."""
        if isinstance(event, Received) and isinstance(event.body, EpochKeyGrant):
            self._granted(event.peer, event.body)
            return True
        return isinstance(event, Expired) and event.context.startswith(CONTEXT)

    def _step(self, configuration: Configuration) -> None:
        messenger = self._runtime.messenger
        if not messenger.has_session(configuration.oracle, configuration.epoch):
            card = self._cards.get(configuration.oracle_card_digest)
            if card is not None:
                messenger.connect(card, ORACLE)
            return
        about = f"{CONTEXT}{configuration.epoch}."
        if messenger.epochs.epoch_key(configuration.epoch) is None and not messenger.asks(configuration.oracle, about):
            request = EpochKeyRequest(configuration.epoch)
            messenger.request(configuration.oracle, request, (EpochKeyGrant,), ASK_WITHIN, about)

    def _granted(self, peer: str, grant: EpochKeyGrant) -> None:
        messenger = self._runtime.messenger
        known = (one for one in (messenger.epochs.latest, messenger.epochs.previous) if one is not None)
        configuration = next((one for one in known if (one.epoch, one.oracle) == (grant.version, peer)), None)
        if configuration is None:
            return
        try:
            messenger.set_epoch_key(configuration, grant.key)
        except HandshakeRefused as error:
            self._runtime.note("epoch-key-refused", version=grant.version, reason=str(error))
        else:
            self._runtime.note("epoch-key", version=grant.version)

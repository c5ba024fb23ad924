"""What an owner says in `ape console` and in the scripts: `fleet.disable("porch")`, `service.rotate("epoch.json")`.

Contracts and accounts are Ape's, passed in; nothing here imports Ape.
"""

from quietfleet.console._absent import Absent
from quietfleet.console._bootstrap import checked as checked_enodes
from quietfleet.console._configuration import Epoch
from quietfleet.console._fleet import Fleet
from quietfleet.console._open import DEVELOPMENT_CHAINS, Desk, accounts_at_hand, open_desk
from quietfleet.console._outbox import Outbox
from quietfleet.console._releases import ReleaseVerbs, channel_hash
from quietfleet.console._roster import Roster
from quietfleet.console._service import ServiceVerbs
from quietfleet.console._signers import Signers, unattended
from quietfleet.console._spoken import spoken
from quietfleet.owners import SENTENCES, AddressBook, Call, Row, View, listing, sentence

__all__ = [
    "DEVELOPMENT_CHAINS",
    "SENTENCES",
    "Absent",
    "AddressBook",
    "Call",
    "Desk",
    "Epoch",
    "Fleet",
    "Outbox",
    "ReleaseVerbs",
    "Roster",
    "Row",
    "ServiceVerbs",
    "Signers",
    "View",
    "accounts_at_hand",
    "channel_hash",
    "checked_enodes",
    "listing",
    "open_desk",
    "sentence",
    "spoken",
    "unattended",
]

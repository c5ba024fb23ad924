"""What an owner says in `ape console` and in the scripts: `fleet.disable("porch")`, `service.rotate("epoch.json")`.

Contracts and accounts are Ape's, passed in; nothing here imports Ape.
"""

from quietfleet.console._book import AddressBook
from quietfleet.console._fleet import Fleet, Row
from quietfleet.console._open import accounts_at_hand, open_fleet
from quietfleet.console._service import Epoch, ServiceVerbs
from quietfleet.console._signers import Signers, unattended
from quietfleet.console._view import Absent, View

__all__ = [
    "Absent",
    "AddressBook",
    "Epoch",
    "Fleet",
    "Row",
    "ServiceVerbs",
    "Signers",
    "View",
    "accounts_at_hand",
    "open_fleet",
    "unattended",
]

"""What owners of devices do without Ape: their address book, and switching over JSON-RPC with a keystore file.

`console` speaks for the same owners in Ape; names, tags, tables and sentences are these.
"""

from quietfleet.owners._book import AddressBook
from quietfleet.owners._call import MAX_BATCH, Call, batches, by_owner
from quietfleet.owners._refusals import SENTENCES, date, sentence
from quietfleet.owners._report import report
from quietfleet.owners._row import Row, table
from quietfleet.owners._view import View, listing, sheet

__all__ = [
    "MAX_BATCH",
    "SENTENCES",
    "AddressBook",
    "Call",
    "Row",
    "View",
    "batches",
    "by_owner",
    "date",
    "listing",
    "report",
    "sentence",
    "sheet",
    "table",
]

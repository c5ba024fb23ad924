"""Which of the accounts at hand signs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from quietfleet.errors import NoSigner


class Signers:
    """The accounts at hand, found by address; `accounts` is asked anew each time, so that new ones are seen."""

    def __init__(self, accounts: Callable[[], Iterable[Any]]) -> None:
        self._accounts = accounts

    def for_any(self, purpose: str, *addresses: str) -> Any:
        """Return the first account that is one of the addresses, NoSigner when none is."""
        for account in self._accounts():
            if account.address in addresses:
                return account
        raise NoSigner(f"{purpose} needs {' or '.join(addresses)}")

    def such_that(self, holds: Callable[[str], bool]) -> list[str]:
        """Return the addresses at hand of which something holds."""
        return [account.address for account in self._accounts() if holds(account.address)]


def unattended(account: Any) -> Any:
    """Let a keystore account sign without questions if its passphrase is in the environment, where Ape looks for it."""
    if f"APE_ACCOUNTS_{getattr(account, 'alias', None)}_PASSPHRASE" in os.environ:
        account.set_autosign(True)
    return account

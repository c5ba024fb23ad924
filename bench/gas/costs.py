"""What the EVM charges (Cancun and Prague), and the items an operation's floor is made of.

Yellow Paper appendix G with EIP-2028 (calldata), EIP-2929 (cold and warm), EIP-2200/3529 (writes, refunds),
EIP-2718/2930 (no access list: for one or two slots it costs more than it saves).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

TRANSACTION: Final = 21_000
ZERO_BYTE: Final = 4
NONZERO_BYTE: Final = 16
TRANSACTION_CAP: Final = 16_777_216
"""The most gas one transaction may ask for (EIP-7825); anvil does not enforce it."""

_COLD_SLOT: Final = 2_100
_COLD_ACCOUNT: Final = 2_600
_WARM: Final = 100
_SET: Final = 20_000
_RESET: Final = 2_900
_CLEAR_REFUND: Final = 4_800
_REFUND_SHARE: Final = 5  # at most a fifth of what was used comes back
_LOG: Final = 375
_LOG_BYTE: Final = 8
_ECRECOVER: Final = 3_000
_VALUE: Final = 9_000
_STIPEND: Final = 2_300
_KECCAK: Final = 30
_KECCAK_WORD: Final = 6
_COMPARISON: Final = 22  # DUP1 PUSH4 EQ PUSH2 JUMPI
_ENTRY: Final = 158  # free memory pointer, selector, no value, enough calldata; one word returned
_ARGUMENT: Final = 46  # loaded, its width checked


@dataclass(frozen=True, slots=True)
class Item:
    """One thing an operation cannot do without; `refund` comes back at the end, within the share allowed."""

    what: str
    gas: int
    refund: int = 0

    def times(self, count: int) -> Item:
        """Return the item as often as a batch needs it."""
        return replace(self, what=f"{count} x {self.what}", gas=self.gas * count, refund=self.refund * count)


def read(slot: str) -> Item:
    """A slot read for the first time in the transaction."""
    return Item(f"read {slot}", _COLD_SLOT)


def fresh(slot: str) -> Item:
    """A slot that was zero, read and written."""
    return Item(f"fill {slot}", _COLD_SLOT + _SET)


def update(slot: str) -> Item:
    """A slot that was not zero, read and changed."""
    return Item(f"change {slot}", _COLD_SLOT + _RESET)


def clear(slot: str) -> Item:
    """A slot that was not zero, read and emptied."""
    return Item(f"empty {slot}", _COLD_SLOT + _RESET, _CLEAR_REFUND)


def log(topics: int, words: int) -> Item:
    """One event: its topics, the signature's included, and its data in words of 32 bytes."""
    return Item(f"log {topics} topics, {words} words", _LOG * (1 + topics) + _LOG_BYTE * 32 * words)


def recover() -> Item:
    """One signature checked by the precompile, which is always warm."""
    return Item("ecrecover", _WARM + _ECRECOVER)


def digest(size: int) -> Item:
    """One hash over so many bytes that the behaviour names; those that only find a slot are left out."""
    return Item(f"hash {size} bytes", _KECCAK + _KECCAK_WORD * -(-size // 32))


def slot_hashes(count: int) -> Item:
    """What finding entries of mappings takes; named for views only, where it weighs."""
    return Item(f"find {count} entries", count * (_KECCAK + 2 * _KECCAK_WORD))


def solidity(place: int, arguments: int) -> Item:
    """What the compiler's own dispatcher and codec take before a function of that place among the selectors begins.

    It compares selectors one after another in ascending order. Named for views only: a transaction's floor is that of
    the machine, not of the language.
    """
    return Item(f"dispatch, place {place}", _ENTRY + _COMPARISON * place + _ARGUMENT * arguments)


def account(whose: str) -> Item:
    """An account looked at for the first time in the transaction."""
    return Item(f"reach {whose}", _COLD_ACCOUNT)


def payment() -> Item:
    """Ether sent to the caller, an account without code that the transaction has warmed."""
    return Item("send ether", _WARM + _VALUE - _STIPEND)


def calldata_gas(data: bytes) -> int:
    """Return what these bytes cost as calldata."""
    zeros = data.count(0)
    return ZERO_BYTE * zeros + NONZERO_BYTE * (len(data) - zeros)


def transaction_items(data: bytes) -> tuple[Item, Item]:
    """Return what every transaction with this calldata pays before it begins."""
    return Item("transaction", TRANSACTION), Item(f"calldata, {len(data)} bytes", calldata_gas(data))


def total(items: Sequence[Item]) -> int:
    """Return what the items cost together, less what is refunded."""
    used = sum(item.gas for item in items)
    return used - min(sum(item.refund for item in items), used // _REFUND_SHARE)

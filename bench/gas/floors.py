"""What each operation cannot do without: storage, checks, event. The runner adds transaction and calldata."""

from __future__ import annotations

from typing import Final

from bench.gas.costs import Item, account, clear, digest, fresh, log, payment, read, recover, slot_hashes, update

Items = tuple[Item, ...]


def batch(count: int, items: Items) -> Items:
    """Return the items of `count` equal parts of a batch."""
    return tuple(item.times(count) for item in items)


_OWNER = (read("owner"),)
_KEY = (digest(64),)


def _proof(words: int) -> Items:
    """A key's signature over a typed struct: the key's address, the two hashes of EIP-712, the recovery."""
    return (*_KEY, digest(32 * words), digest(66), recover())


_GATE = (read("fee, pause"),)
_ADMITTED = (*_proof(4), fresh("worker"), log(3, 3))
_TOGGLED = (update("worker"), log(3, 2))
_REKEYED = (update("worker"), *_proof(5), fresh("alias"), log(3, 4))

_CONFIGURED = (digest(13 * 32), digest(66), log(2, 12))
_ROTATION = (read("rotator, bounds"), update("line"), update("digest"), *_CONFIGURED)

_URLS = 4 * 7  # four relays: a length and six words each
_LISTED = (digest((2 + 4 + _URLS) * 32), log(2, 3 + 4 + _URLS))

_PUBLISHER = (read("gateway of publisher"), account("Service"), read("worker"))
_APPROVER = (read("approver, pause"),)
_HEAD = (update("head"),)
_PROPOSED = (fresh("release"), digest(7 * 32), log(3, 7))
_ROLLED_BACK = (*_HEAD, update("release"), log(4, 1))
_LEAF = 98
_NODE = 65
_LEVELS = 10

SERVICE: Final[dict[str, Items]] = {
    "enrol": (*_GATE, *_ADMITTED),
    "enrolBatch 1": (*_GATE, *_ADMITTED),
    "enrolBatch 10": (*_GATE, *batch(10, _ADMITTED)),
    "enrolBatch 100": (*_GATE, *batch(100, _ADMITTED)),
    "enrolBatch 400": (*_GATE, *batch(400, _ADMITTED)),
    "enrolSelf": (*_GATE, *_KEY, fresh("worker"), log(3, 3)),
    "accept": (update("worker"), log(3, 1)),
    "setActive off": _TOGGLED,
    "setActive on": _TOGGLED,
    "setActive off by operator": (read("grant"), *_TOGGLED),
    "setActiveBatch 10": batch(10, _TOGGLED),
    "setActiveBatch 400": batch(400, _TOGGLED),
    "setSuspended": (*_OWNER, update("worker"), log(2, 2)),
    "offerTransfer": (update("worker"), fresh("offer"), log(3, 1)),
    "cancelTransfer": (update("worker"), clear("offer"), log(2, 1)),
    "acceptTransfer": (update("worker"), clear("offer"), log(4, 1)),
    "transferSigned": (
        *(update("worker"), read("offer"), digest(5 * 32), digest(66), account("recipient"), recover(), log(4, 1)),
    ),
    "retire": (update("worker"), read("offer"), log(3, 1)),
    "retire with an offer": (update("worker"), clear("offer"), log(3, 1)),
    "rotateKey first": _REKEYED,
    "rotateKey again": _REKEYED,
    "rotateKey by operator": (read("grant"), *_REKEYED),
    "rotateKeyBatch 10": batch(10, _REKEYED),
    "rotateKeyBatch 400": batch(400, _REKEYED),
    "setOperator new": (fresh("grant"), log(3, 2)),
    "setOperator change": (update("grant"), log(3, 2)),
    "rotate first": (*_OWNER, read("rotator, bounds"), fresh("line"), fresh("digest"), *_CONFIGURED),
    "rotate second": (*_OWNER, read("rotator, bounds"), update("line"), fresh("digest"), *_CONFIGURED),
    "rotate by owner": (*_OWNER, *_ROTATION),
    "rotate by rotator": _ROTATION,
    "rotateAtOnce": _ROTATION,
    "setRotator": (*_OWNER, update("rotator, bounds"), log(3, 0)),
    "setBootstrap first": (*_OWNER, fresh("list"), *_LISTED),
    "setBootstrap": (*_OWNER, update("list"), *_LISTED),
    "setPowBounds": (*_OWNER, update("rotator, bounds"), log(1, 2)),
    "announceFee": (*_OWNER, *_GATE, fresh("announcement"), log(1, 2)),
    "cancelFee": (*_OWNER, clear("announcement"), log(1, 1)),
    "applyFee": (*_OWNER, clear("announcement"), update("fee, pause"), log(1, 2)),
    "lowerFeeCap": (*_OWNER, update("fee, pause"), log(1, 2)),
    "setPaused": (*_OWNER, update("fee, pause"), log(1, 1)),
    "withdraw": (*_OWNER, payment(), log(2, 1)),
    "nameSuccessor": (*_OWNER, fresh("successor"), log(3, 0)),
    "transferOwnership": (*_OWNER, fresh("pending owner"), log(3, 0)),
    "acceptOwnership": (clear("pending owner"), update("owner"), log(3, 0)),
}

RELEASES: Final[dict[str, Items]] = {
    "propose first": (*_PUBLISHER, *_APPROVER, fresh("head"), *_PROPOSED),
    "propose": (*_PUBLISHER, *_APPROVER, *_HEAD, *_PROPOSED),
    "approve": (*_APPROVER, *_HEAD, read("release"), log(4, 0)),
    "openWave first": (*_PUBLISHER, *_HEAD, log(3, 1)),
    "openWave next": (*_PUBLISHER, *_HEAD, log(3, 1)),
    "pause by approver": (*_APPROVER, *_HEAD, log(4, 0)),
    "pause by publisher": (*_APPROVER, *_PUBLISHER, *_HEAD, log(4, 0)),
    "resume": (*_APPROVER, *_HEAD, log(4, 0)),
    "finalise": (*_PUBLISHER, *_HEAD, update("release"), log(3, 5)),
    "rollBack by approver": (*_APPROVER, *_ROLLED_BACK),
    "rollBack by publisher": (*_APPROVER, *_PUBLISHER, *_ROLLED_BACK),
    "revoke": (*_APPROVER, *_HEAD, update("release"), log(4, 1)),
    "revoke unknown": (*_APPROVER, read("head"), fresh("release"), log(4, 1)),
    "setPublisher": (*_OWNER, fresh("gateway of publisher"), log(3, 0)),
    "setApprover": (*_OWNER, update("approver, pause"), log(3, 0)),
    "setPaused (releases)": (*_OWNER, update("approver, pause"), log(1, 1)),
}

AUDIT: Final[dict[str, Items]] = {
    "anchor first": (fresh("anchor"), log(4, 1)),
    "anchor": (update("anchor"), log(4, 1)),
}

VIEWS: Final[dict[str, Items]] = {
    "canCooperate": (read("one"), read("other"), slot_hashes(2)),
    "isUsable": (read("worker"), slot_hashes(1)),
    "accepts newest": (read("line"), read("digest")),
    "accepts previous": (read("line"), read("digest"), read("previous digest")),
    "admits": (
        *(read("head"), read("release"), slot_hashes(3)),
        *(digest(7 * 32), digest(_LEAF), digest(_NODE).times(_LEVELS)),
    ),
}
"""To each, the runner adds what the compiler's dispatcher takes."""

NO_CEILING: Final = {
    "setBootstrap": "plain Solidity encodes the list twice, for its digest and for its event; a service names its "
    "relays a few times in its life",
    "admits": "asked by `eth_call` only, which pays nothing: ten levels of plain Solidity instead of assembly",
}

CONFIRMED: Final = {
    "enrol": "FloorEnrol",
    "setActive off": "FloorToggle",
    "rotateKey first": "FloorRotateKey",
    "rotate by rotator": "FloorRotate",
    "propose": "FloorPropose",
    "canCooperate": "FloorCooperation",
}
"""The operations whose floor a hand-written contract confirms."""

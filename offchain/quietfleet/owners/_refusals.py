"""What each of the contracts' errors asks of whoever made the call: one sentence an error."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

_MALFORMED: Final = "The signature is malformed: have it signed again."
_MISBUILT: Final = "The contract's name does not fit into its build: compile it again."

SENTENCES: Final = {
    "BadActivation": "A configuration starts between {earliest:time} and {latest:time}: choose another lead.",
    "BadBatchSize": "{size} items do not fit into one call: name 1 to {bound}.",
    "BadEnodeSize": "Relay {index} is {size} bytes long: an enode URL has {least} to {most}.",
    "BadFeeCap": "A cap only goes down, and stays between {least} and {most} wei: choose another than {cap}.",
    "BadFloor": "The floor stays between {least} and {most}: choose another than {floor}.",
    "BadGrace": "A grace of {grace} s is too long: choose {most} s at most.",
    "BadKind": "There is no kind {kind}: have the device sign again for one of the five kinds.",
    "BadMaxSize": "An envelope holds {least} to {most} bytes at most: choose another limit than {maxSize}.",
    "BadMaxTtl": "An envelope lives {least} to {most} s at most: choose another limit than {maxTtl}.",
    "BadMinPow": "The least proof of work stays between {least:pow} and {most:pow}: choose another than {minPow:pow}, "
    "or have the service owner set other bounds.",
    "BadRights": "{rights} is no sum of rights: 1 switches off, 2 switches on, 4 replaces keys.",
    "BadTarget": "{manifestHash} cannot be brought back: name a manifest that once reached the whole fleet, is not "
    "revoked and is not the newest.",
    "BadTerm": "An operator's rights end after now and by {latest:time}: choose another end.",
    "BadTimes": "The terms allow no time to roll out, from {notBefore:time} to {expiresAt:time}: correct them.",
    "ECDSAInvalidSignature": _MALFORMED,
    "ECDSAInvalidSignatureLength": _MALFORMED,
    "ECDSAInvalidSignatureS": _MALFORMED,
    "EnrolmentPaused": "Enrolments are paused: wait until the service owner resumes them.",
    "FeeAboveCap": "A fee of {fee} wei exceeds the cap of {cap} wei: choose less.",
    "GatewayNotUsable": "The publisher's gateway {gateway} is not enrolled as a gateway and active: have its owner "
    "switch it on, or name another one for the publisher.",
    "GatewayWithoutCard": "A gateway and the digest of its card come together or not at all: correct the epoch file.",
    "GraceRunning": "The version before is accepted until {until:time}, as announced: rotate after that, or at once in "
    "an emergency.",
    "InvalidShortString": _MISBUILT,
    "KeyTaken": "{key} is or was some worker's key: have the device draw a new one.",
    "KeysExhausted": "{id} has had all the keys it can have: retire it and enrol the device anew.",
    "ManifestKnown": "The channel has had the manifest {manifestHash}, or it is revoked: propose another one, or bring "
    "it back by rolling back.",
    "MissingCommitment": "A commitment or digest is missing: have the oracle prepare the epoch again.",
    "MissingDigest": "A digest is missing: name one that is not zero.",
    "NoFeeAnnounced": "No fee is announced: announce one first.",
    "NoWaves": "The terms have no wave: give them one at least.",
    "NotAgreed": "{to} did not sign for {id} as it is now: have it sign again.",
    "NotApprover": "{caller} may not approve: use the approver's account.",
    "NotInCharge": "{caller} may not: use the account of the owner, the approver or, unless it revokes, a publisher.",
    "OtherManifest": "Release {sequence} offers another manifest than {manifestHash}: look at its terms, and name "
    "that one.",
    "NotNewest": "The newest release of the channel is {newest}, not {sequence}: look at its status and name that one.",
    "NotOffered": "{id} is not offered to {caller}: ask its owner for an offer.",
    "NotPending": "{id} waits for nobody's acceptance: there is nothing to do.",
    "NotPublisher": "{caller} is no publisher: have the owner name it one, with its gateway.",
    "NotRotator": "{caller} may not rotate: use the account of the rotator or of the service owner.",
    "NotTheWorker": "{caller} is not the device {id}: a device enrols itself from the address of its own key.",
    "NotWorkerOwner": "{id} is not {caller}'s: use its owner's account, or that of an operator with the right.",
    "NothingToWithdraw": "There is no revenue: wait for an enrolment.",
    "OutsideFeeWindow": "The announced fee may be applied from {opens:time} to {closes:time}: wait for that, or "
    "announce it again.",
    "OutsideWindow": "A wave opens from {opens:time} to {closes:time}: wait for that, or propose the release again.",
    "OwnableInvalidOwner": "{owner} cannot be the owner: name an account.",
    "OwnableUnauthorizedAccount": "{account} is not the owner: use the owner's account.",
    "OwnerRequired": "There is always an owner: offer the post to a successor instead.",
    "ReleasesPaused": "New releases are paused: wait until the owner resumes them.",
    "SignatureExpired": "What was signed was valid until {deadline:time}: have it signed again.",
    "SignatureTooLong": "A signature of {size} bytes is too long: {bound} is the most.",
    "StillSoaking": "The wave is watched until {until:time}: wait for that.",
    "StringTooLong": _MISBUILT,
    "TooManyEnodes": "{count} relays are too many: name {most} at most.",
    "Unchanged": "It is so already: there is nothing to do.",
    "UnknownWorker": "{id} is not enrolled: check the name or id.",
    "WithdrawalFailed": "{to} refuses ether: name another address.",
    "WorkerPending": "{id} waits for its owner: accept it first.",
    "WorkerRetired": "{id} is retired for good: enrol the device with a new key.",
    "WrongFee": "{expected} wei are due, {sent} were sent: the fee has changed, try again.",
    "WrongSigner": "{signer} signed and not {expected}, or something else was signed: have the device sign again for "
    "this owner and contract.",
    "WrongState": "The newest release of the channel is {state:state}: this step does not follow from there.",
    "WrongWave": "{wave} of {waveCount} waves are open: open all of them, and then finalise.",
    "ZeroAddress": "An address is missing: name one that is not zero.",
}

STATES: Final = ("none", "proposed", "approved", "rolling out", "paused", "completed", "revoked")

_POW_SCALE: Final = 10**9


class _Argument:
    """An error's argument, as a sentence shows it."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __format__(self, meaning: str) -> str:
        match meaning:
            case "time":
                return date(self._value)
            case "pow":
                return f"{self._value / _POW_SCALE:g}"
            case "state":
                return STATES[self._value]
        return f"0x{self._value.hex()}" if isinstance(self._value, bytes) else str(self._value)


def sentence(error: str, arguments: Mapping[str, Any]) -> str:
    """Say what a contract's error asks for; one that is not known here is named with its arguments."""
    known = SENTENCES.get(error)
    if known is None:
        listed = ", ".join(f"{name}={value}" for name, value in arguments.items())
        return f"The contract refuses with {error}({listed})."
    return known.format(**{name: _Argument(value) for name, value in arguments.items()})


def date(seconds: int) -> str:
    """Show Unix seconds as people read them."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):  # a contract's number may lie beyond the calendar
        return f"second {seconds}"

"""Every error this package raises on purpose; a class's docstring is the sentence its reader sees."""

from __future__ import annotations

import inspect


class QuietfleetError(Exception):
    """Something went wrong in Quietfleet."""

    exit_code = 1  # of the command that it ends

    def __str__(self) -> str:
        detail = super().__str__()
        sentence = inspect.cleandoc(type(self).__doc__ or "")
        return f"{sentence} ({detail})" if detail else sentence

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows at a prompt: the sentence, instead of a traceback."""
        return [str(self)]


class SettingsError(QuietfleetError):
    """The settings cannot be used: correct the file or variable named here."""


# session


class CardRefused(QuietfleetError):
    """An identity card is malformed or not signed by its own key."""


class PartnerRefused(QuietfleetError):
    """A counterpart is none that this worker works with."""


class HandshakeRefused(QuietfleetError):
    """A handshake message does not fit: wrong keys, wrong signature or too old."""


class MessageRefused(QuietfleetError):
    """A message is malformed, of an unknown kind or too large."""


class NoSession(QuietfleetError):
    """There is no open session with that worker."""


# network


class NetworkError(QuietfleetError):
    """The messaging network cannot do this."""


class AddressError(NetworkError):
    """A network address must read host:port, or enode://<128 hex digits>@host:port, with a port from 0 to 65535."""


class LinkError(NetworkError):
    """The connection to a peer is lost."""

    def __init__(self, detail: str = "", *, cause: str = "lost") -> None:
        super().__init__(detail)
        self.cause = cause  # one word of a short list, to count by


class FrameError(LinkError):
    """A peer sent bytes that are no frame of the link."""


class WireError(NetworkError):
    """A peer sent a message that breaks the messaging protocol."""


class ExpelledError(NetworkError):
    """A peer was disconnected because it kept sending garbage."""


class UnsendableError(NetworkError):
    """No peer would carry this envelope under the rules in force: seal it again."""


# mixnet


class MixnetError(QuietfleetError):
    """A message cannot travel anonymously as asked."""


class DescriptorError(MixnetError):
    """A relay's descriptor is malformed, or not signed by that relay."""


class PacketRefused(MixnetError):
    """An onion packet is not for us, altered, out of its time, or malformed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EnvelopeTooLarge(MixnetError):
    """The envelope fits no onion packet: send less at once."""


class PathUnavailable(MixnetError):
    """Too few relays are known to hide a message's origin: nothing was sent."""


class GuardUnavailable(MixnetError):
    """No entry guard may be used now: wait for ours to come back, others would learn who we are."""

    def __init__(self, detail: str, retry_at: float | None = None) -> None:
        super().__init__(detail)
        self.retry_at = retry_at


class QueueFull(MixnetError):
    """Too many messages wait for their turn to leave: slow down and try again."""


# chain


class ChainError(QuietfleetError):
    """The chain, or the endpoint that shows it, cannot be used as it is."""


class DeploymentError(ChainError):
    """The deployment file cannot be used: deploy again or name the right file."""


class AbiError(ChainError):
    """The deployment's ABI does not describe what was asked for or received: deployment file and contracts differ."""


class ChainUnavailable(ChainError):
    """The chain's endpoint does not answer: check that it runs and can be reached."""


class NotYetMined(ChainUnavailable):
    """The transaction is sent, but no block has taken it: it may take effect still, so look before you repeat it."""

    exit_code = 3


class NotEnoughEther(ChainError):
    """The account cannot pay for this: send it ether."""


class ChainMismatch(ChainError):
    """The endpoint serves another chain than the one the contracts stand on: correct the endpoint's address."""


class ChainRefused(ChainError):
    """The endpoint understood the request and refused it."""

    def __init__(self, method: str, message: str, data: bytes = b"") -> None:
        super().__init__(f"{method}: {message}")
        self.method = method
        self.message = message
        self.data = data


class ChainRejected(ChainError):
    """The contract rejected the transaction; the reason is the contract's own error with its arguments."""

    def __init__(self, error: str, arguments: dict[str, object]) -> None:
        listed = ", ".join(f"{name}={value}" for name, value in arguments.items())
        super().__init__(f"{error}({listed})")
        self.error = error
        self.arguments = arguments


class ChainDisagreement(ChainError):
    """Two endpoints show different chains: trust neither until they agree again."""


class ReplicaGap(ChainError):
    """Events are missing: the endpoint served an incomplete history, and so did the second reading."""


class ConfigurationUnproven(ChainError):
    """The endpoint does not show the configuration whose digest the contract keeps: ask again, or ask another one."""


class BootstrapUnproven(ChainError):
    """The endpoint does not show the list of relays whose digest the contract keeps: ask again, or ask another one."""


class ConsentInvalid(ChainError):
    """The device's consent cannot be used: have the device sign again for this owner, kind and contract."""


# storage


class StorageError(QuietfleetError):
    """What this worker keeps on disk cannot be read or written."""


class ObjectMissing(StorageError):
    """No object with this hash is stored here."""


class ObjectCorrupt(StorageError):
    """A stored object's bytes no longer match its hash: fetch it again from a peer."""


class ObjectSealed(StorageError):
    """The object is the one asked for, but its key does not open it: ask its sender for the reference again."""


class ObjectTooLarge(StorageError):
    """An object is larger than this worker takes into memory."""


class LayoutRefused(StorageError):
    """An OCI image layout is not whole and as it should be: nothing of it was taken, and nothing added."""


class ErasureDelayed(StorageError):
    """Erased data may still stand in the write-ahead log because someone is reading: erase again soon."""


class FileRefused(StorageError):
    """A file of the month's readings is missing or not what was written: put it back, or erase its day."""


class StoreOutOfReach(StorageError):
    """The month's files cannot be read or written now: what was taken is kept here, and work goes on by itself."""


class StoreBusy(StorageError):
    """Somebody else changed the month's files meanwhile: the step is undone and can be done again."""


class HoldInForce(StorageError):
    """Readings stay because a legal hold is in force: once it is released, ask again."""


class AuditBroken(StorageError):
    """The audit trail was changed after it was written: nothing from this entry on can be trusted."""

    exit_code = 4


class ProofRefused(StorageError):
    """A proof of an audit entry does not hold."""

    exit_code = 4


class DiskFull(StorageError):
    """The disk is full, so nothing can be kept and nothing is sent: make room, and work goes on by itself."""


class DiskReadOnly(StorageError):
    """The state folder cannot be written, so nothing is sent: make it writable for this user."""


class DiskFailed(StorageError):
    """The disk does not give or take what it should: look after it, and restore only the keystore if it is lost."""


class StateInUse(StorageError):
    """Somebody else keeps the worker's database locked: stop whatever else runs on this state folder."""


class StateDamaged(StorageError):
    """What is kept on disk is damaged: move the state folder away and start with the same keystore and an empty one."""


class TransactionLost(StorageError):
    """The database gave up a transaction under way: all of the step is undone."""


class SharedStoreError(StorageError):
    """The store that replicas share did not take a step, which is undone."""


class StoreUnavailable(SharedStoreError):
    """The store that replicas share cannot be reached: nothing is answered until it can."""


class Fenced(SharedStoreError):
    """The replicas' membership has changed, or another one wrote first: the step is undone and done again."""


class StoreReverted(SharedStoreError):
    """The store that replicas share was altered or set back: restore what it had, or give every replica a fresh one."""


# monitor


class MonitorError(QuietfleetError):
    """The monitor was given data it cannot judge."""


class CorrectionRefused(MonitorError):
    """A channel is not corrected."""

    word = "refused"  # of a short list, to count by and to tell


class TooFewPeers(CorrectionRefused):
    """Fewer than two sound peers read this channel at the same times: nobody can say what is right."""

    word = "too few peers"


class TooLittleData(CorrectionRefused):
    """The device and its peers have too few readings of the same times, or too little is known of their distance."""

    word = "too little data"


class ChannelStuck(CorrectionRefused):
    """The channel does not move: no correction makes a stuck sensor right."""

    word = "stuck"


class PeersDisagree(CorrectionRefused):
    """The peers are too far apart to be a measure: look at them first."""

    word = "peers disagree"


class Unsteady(CorrectionRefused):
    """The device's distance from its peers changes by more than it is off: no one correction makes it right."""

    word = "unsteady"


class NothingToCorrect(CorrectionRefused):
    """The device is as far from its peers as it usually is, as well as can be told."""

    word = "nothing to correct"


class UnknownSensor(MonitorError):
    """That sensor is in no session with this processor: name one that `quietfleet status --json` shows there."""


class BeyondLimits(CorrectionRefused):
    """The correction, with all before it, would go beyond the limits: replace the sensor, or set wider ones."""

    word = "beyond limits"


# actuators


class ActuatorFailed(QuietfleetError):
    """The actuator did not go where it was sent."""

    @property
    def words(self) -> str:
        """What happened, for a report."""
        return str(self.args[0]) if self.args else ""


# pipeline


class PipelineError(QuietfleetError):
    """The training pipeline stopped before it had a usable model."""


class ProjectError(PipelineError):
    """The project's file cannot be used: correct the line that is named."""


class Cancelled(PipelineError):
    """The run was stopped: start it again and it goes on where it was."""


class DataRejected(PipelineError):
    """The data cannot be trained on."""


class PackagingError(PipelineError):
    """The trained model cannot be shipped to devices."""


class ModelRejected(PipelineError):
    """A released model failed verification on this device and was not loaded."""


class ModelOver(ModelRejected):
    """It is what was released, but its manifest says that its time is over."""


class NoForecast(PipelineError):
    """There is no forecast now: the process in which models run is starting."""


class ModelFailed(NoForecast):
    """The model raised where it runs, ended the process it ran in, or kept it past its time."""


class RegistryError(PipelineError):
    """The model registry has no such model, version or alias, or does not take this."""


class ApprovalMissing(RegistryError):
    """Production takes two: name who approved it beside who moves it, or set [gateway] one_person = true."""


class RegistryDamaged(RegistryError):
    """The model registry is not what it was: what is named here was damaged, changed or never recorded."""

    exit_code = 4


# rollout


class RolloutError(QuietfleetError):
    """A release cannot go through the fleet like this."""


class ReleaseRefused(RolloutError):
    """A release, or what came with it, is not what the chain opened to this device: nothing of it was loaded."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


# crypto


class CryptoError(QuietfleetError):
    """A key, signature or sealed text is not genuine or not well formed."""


class RowDamaged(StateDamaged, CryptoError):
    """A row on disk does not open: it is damaged, or the keystore is another worker's; start from an empty folder."""


class KeystoreError(QuietfleetError):
    """The key file cannot be used."""


# whisper


class EnvelopeError(QuietfleetError):
    """A message from the network is not a well-formed Whisper envelope."""


class BloomError(QuietfleetError):
    """A bloom or topic cannot be used."""


class PayloadError(QuietfleetError):
    """A message's content cannot be read, or cannot be written, in Whisper's payload format."""


class PowTargetMissed(QuietfleetError):
    """The proof of work was stopped before it reached its target; `nonce` is the best one found."""

    def __init__(self, nonce: int, zero_bits: int, wanted_bits: int) -> None:
        super().__init__(f"{zero_bits} of {wanted_bits} zero bits at nonce {nonce}")
        self.nonce = nonce
        self.zero_bits = zero_bits
        self.wanted_bits = wanted_bits


# testbed


class TestbedError(QuietfleetError):
    """A process of the testbed could not be started or reached."""

    __test__ = False  # its name would make pytest collect it


# console


class BookError(QuietfleetError):
    """The address book cannot be read: correct the file or name another in QUIETFLEET_BOOK."""


class UnknownWorkerName(QuietfleetError):
    """No worker goes by this name or id: names come from the address book, ids from the registry."""


class UnknownTag(QuietfleetError):
    """No worker carries this tag: tags come from the address book; `fleet.tag` or `quietfleet fleet tag` adds them."""


class NameRefused(QuietfleetError):
    """A name or tag is 1 to 64 printable characters without commas, and begins with neither 0x nor a dash."""


class NothingNamed(QuietfleetError):
    """Nothing was named, so nothing was done: name at least one worker, or a tag."""


class NoSigner(QuietfleetError):
    """None of the accounts at hand may sign this: import or name the right account."""


class EpochError(QuietfleetError):
    """The epoch cannot be rotated to: ask the oracle for the next one."""


class NotEnrolled(QuietfleetError):
    """The worker is not in the registry, as far as it has read the chain: have it enrolled, and let it run first."""


class CallRefused(QuietfleetError):
    """The contract refuses the call; the detail says why and what to do."""

    def __str__(self) -> str:
        return str(self.args[0])


class UnknownVerb(QuietfleetError, AttributeError):
    """There is no such verb: dir() of the object lists those it has."""


class ProofInvalid(QuietfleetError):
    """The proof of the new key cannot be used: have the worker prepare it again for this owner and epoch."""


class TermsError(QuietfleetError):
    """The release's file cannot be used: correct it."""


class ParametersError(QuietfleetError):
    """The deployment's parameters cannot be used; nothing was sent."""


class DeploymentExists(QuietfleetError):
    """A deployment of this chain is on record: pass --new to deploy another and keep the record under a number."""


class StaleBuild(QuietfleetError):
    """The compiled contracts are not what their sources say: run `ape compile --force`; nothing was sent."""


class MigrationError(QuietfleetError):
    """The service cannot be moved like this."""


# cli


class StatusUnreadable(QuietfleetError):
    """A worker's status file is not what a worker writes: name the workers' own folders."""


class Unhealthy(QuietfleetError):
    """The worker does not work as it should: look at its log."""

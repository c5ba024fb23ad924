// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Who belongs to the fleet
/// @notice A worker is named by the address of its first messaging key, so that whoever holds the id can check every
/// signature and every handshake against it. Its owner speaks for it; nobody enrols without the consent of both.
/// @dev Events that carry `sequence` number the changes of one worker without gaps, so that a reader who missed one
/// knows it; `Enrolled` and `EnrolledItself` are always number 1.
interface IWorkerRegistry {
    /// @notice One worker.
    /// @param owner Who speaks for it.
    /// @param since When it was enrolled, in unix seconds.
    /// @param epoch How often its messaging key was replaced; 0 means the key its id is made of.
    /// @param sequence How many numbered events it has had.
    /// @param kind 1 sensor, 2 processor, 3 gateway, 4 relay, 5 oracle; 0 means never enrolled.
    /// @param flags 1 active, 2 suspended, 4 pending, 8 retired.
    struct Worker {
        address owner;
        uint32 since;
        uint16 epoch;
        uint32 sequence;
        uint8 kind;
        uint8 flags;
    }

    /// @notice A device with the consent it signed: EIP-712 `Enrol(address owner,uint8 kind,uint256 deadline)`, by its
    /// messaging key. The consent needs no nonce, since an id is used once.
    /// @param x First half of its public messaging key.
    /// @param y Second half of it.
    /// @param kind 1 sensor, 2 processor, 3 gateway, 4 relay, 5 oracle.
    /// @param deadline Last second at which the consent is valid, in unix seconds.
    /// @param r First half of the signature.
    /// @param vs Second half of it with the parity in the highest bit (ERC-2098); s is low.
    struct Enrolment {
        bytes32 x;
        bytes32 y;
        uint8 kind;
        uint256 deadline;
        bytes32 r;
        bytes32 vs;
    }

    /// @notice Emitted when an owner enrols a worker with its consent; it starts active.
    /// @param id The address of the public key (x, y).
    event Enrolled(address indexed id, address indexed owner, uint8 kind, bytes32 x, bytes32 y);

    /// @notice Emitted when a worker enrols itself, naming its owner; it is pending until that owner accepts.
    /// @param id The address of the public key (x, y).
    event EnrolledItself(address indexed id, address indexed owner, uint8 kind, bytes32 x, bytes32 y);

    /// @notice Emitted when the owner a worker named for itself accepts it.
    event Accepted(address indexed id, address indexed owner, uint32 sequence);

    /// No such kind of worker.
    error BadKind(uint8 kind);

    /// A key is one worker's, once: not another's, and not even its own again.
    error KeyTaken(address key);

    /// It was signed by another key, or something else was signed.
    error WrongSigner(address expected, address signer);

    /// A device enrols itself from the address of its own key.
    error NotTheWorker(address caller, address id);

    /// No worker has this id.
    error UnknownWorker(address id);

    /// Only the worker's owner may do this, or an operator of the owner's who was given this right.
    error NotWorkerOwner(address id, address caller);

    /// The worker waits for nobody's acceptance.
    error NotPending(address id);

    /// @notice Enrols a device for the caller, with the device's signed consent; it starts active.
    /// @return id The worker's id.
    function enrol(Enrolment calldata device) external payable returns (address id);

    /// @notice Enrols several devices for the caller, for so many fees: all of them, or none when one cannot be.
    function enrolBatch(Enrolment[] calldata devices) external payable;

    /// @notice Enrols the calling device, which names its owner; it is pending until that owner accepts.
    /// @param x First half of the device's public messaging key.
    /// @param y Second half of it.
    /// @param kind 1 sensor, 2 processor, 3 gateway, 4 relay, 5 oracle.
    /// @param owner Who shall speak for it.
    /// @return id The worker's id, which is the caller.
    function enrolSelf(bytes32 x, bytes32 y, uint8 kind, address owner) external payable returns (address id);

    /// @notice Accepts a worker that named the caller as its owner; it becomes active.
    function accept(address id) external;

    /// @notice The worker of that id; all zero when there is none.
    function worker(address id) external view returns (Worker memory);

    /// @notice Whose messaging key an address belongs to.
    /// @return id The worker; zero when the key is nobody's.
    /// @return epoch Which of the worker's keys it is; 0 is the one its id is made of.
    /// @return current Whether it is the newest: an older one speaks for nobody any more.
    function workerOf(address key) external view returns (address id, uint16 epoch, bool current);

    /// @notice Whether two workers may work with each other now: both active, nothing against either, and their kinds
    /// meet (sensor with processor, processor with gateway, gateway with gateway, each of these with an oracle).
    function canCooperate(address a, address b) external view returns (bool);

    /// @notice Whether a worker is of that kind and may work now.
    function isUsable(address id, uint8 kind) external view returns (bool);
}

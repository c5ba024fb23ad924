// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Who belongs to the fleet
/// @notice A worker is named by the address of its first messaging key, so that whoever holds the id can check every
/// signature and every handshake against it. Its owner speaks for it; nobody enrols without the consent of both.
/// @dev Events that carry `sequence` number the changes of one worker from 1 without gaps, so that a reader who missed
/// one knows it.
interface IWorkerRegistry {
    /// @notice One worker, packed in one storage slot.
    /// @param owner Who speaks for it.
    /// @param since When it was enrolled, in unix seconds.
    /// @param epoch How often its messaging key was replaced; 0 means the key its id is made of.
    /// @param sequence How many numbered events it has had.
    /// @param kind 1 sensor, 2 processor, 3 gateway, 4 relay, 5 oracle; 0 means never enrolled.
    /// @param flags 1 active, 2 suspended, 4 pending, 8 retired.
    struct Worker {
        address owner;
        uint40 since;
        uint16 epoch;
        uint24 sequence;
        uint8 kind;
        uint8 flags;
    }

    /// @notice Emitted when a worker is enrolled; the only place its public key is written to.
    /// @param id The address of the public key (x, y).
    /// @param pending Whether the owner has yet to accept.
    event Enrolled(
        address indexed id, address indexed owner, uint8 kind, bool pending, bytes32 x, bytes32 y, uint24 sequence
    );

    /// @notice Emitted when the owner a worker named for itself accepts it.
    event Accepted(address indexed id, address indexed owner, uint24 sequence);

    /// @notice Emitted when the fee of an enrolment changes, in wei.
    event FeeChanged(uint256 previous, uint256 current);

    /// @notice Emitted when the service owner takes out the revenue, in wei.
    event Withdrawn(address indexed to, uint256 amount);

    /// No such kind of worker.
    error BadKind(uint8 kind);

    /// The fee is exact, in wei.
    error WrongFee(uint256 sent, uint256 expected);

    /// A fee beyond the bound is taken for a slip of the unit, in wei.
    error FeeTooHigh(uint256 fee, uint256 bound);

    /// The device's consent was valid until `deadline`.
    error ConsentExpired(uint256 deadline, uint256 time);

    /// An id enrols once, ever; not even a retired one comes back.
    error AlreadyEnrolled(address id);

    /// The consent was signed by another key, or for another owner, kind or deadline.
    error WrongSigner(address id, address signer);

    /// A device enrols itself from the address of its own key.
    error NotTheWorker(address caller, address id);

    /// No worker has this id.
    error UnknownWorker(address id);

    /// Only the worker's owner may do this.
    error NotWorkerOwner(address id, address caller);

    /// The worker waits for nobody's acceptance.
    error NotPending(address id);

    /// There is no revenue to take out.
    error NothingToWithdraw();

    /// The receiver refused the revenue.
    error WithdrawalFailed(address to);

    /// @notice Enrols a device for the caller, with the device's signed consent; it starts active.
    /// @param x First half of the device's public messaging key.
    /// @param y Second half of it.
    /// @param kind 1 sensor, 2 processor, 3 gateway, 4 relay, 5 oracle.
    /// @param deadline Last second at which the consent is valid, in unix seconds.
    /// @param signature EIP-712 `Enrol(address owner,uint8 kind,uint256 deadline)` by the device key: r, s (low), v
    /// (27 or 28). It needs no nonce, since an id is used once.
    /// @return id The worker's id.
    function enrol(bytes32 x, bytes32 y, uint8 kind, uint256 deadline, bytes calldata signature)
        external
        payable
        returns (address id);

    /// @notice Enrols the calling device, which names its owner; it is pending until that owner accepts.
    /// @param x First half of the device's public messaging key.
    /// @param y Second half of it.
    /// @param kind 1 sensor, 2 processor, 3 gateway, 4 relay, 5 oracle.
    /// @param owner Who shall speak for it.
    /// @return id The worker's id, which is the caller.
    function enrolSelf(bytes32 x, bytes32 y, uint8 kind, address owner) external payable returns (address id);

    /// @notice Accepts a worker that named the caller as its owner; it becomes active.
    function accept(address id) external;

    /// @notice Sets the fee of an enrolment, in wei; service owner only.
    function setFee(uint256 current) external;

    /// @notice Sends all revenue to `to`; service owner only.
    function withdraw(address payable to) external;

    /// @notice The fee of an enrolment, in wei.
    function fee() external view returns (uint256);

    /// @notice The worker of that id; all zero when it was never enrolled.
    function worker(address id) external view returns (Worker memory);

    /// @notice How many workers were ever enrolled.
    function workerCount() external view returns (uint256);

    /// @notice Whether two workers may work with each other now: both active, nothing against either, and their kinds
    /// meet (sensor with processor, processor with gateway, gateway with gateway, each of these with an oracle).
    function canCooperate(address a, address b) external view returns (bool);
}

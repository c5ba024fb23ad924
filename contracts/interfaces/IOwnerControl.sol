// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title What an owner decides about a device
/// @notice Connections are not stored: switching a worker off severs all of them, with one event for everybody.
interface IOwnerControl {
    /// @notice Emitted when a worker is switched on or off, by its owner or by an operator.
    event ActiveChanged(address indexed id, address indexed by, bool active, uint32 sequence);

    /// @notice Emitted when the service suspends a worker or takes that back.
    event SuspendedChanged(address indexed id, bool suspended, uint32 sequence);

    /// @notice Emitted when an owner offers a worker to somebody; it replaces an earlier offer.
    event TransferOffered(address indexed id, address indexed to, uint32 sequence);

    /// @notice Emitted when an offer is taken back.
    event TransferCancelled(address indexed id, uint32 sequence);

    /// @notice Emitted when a worker passes to another owner who agreed; an offer of it ends.
    event OwnerChanged(address indexed id, address indexed from, address indexed to, uint32 sequence);

    /// @notice Emitted when a worker is retired for good; an offer of it ends.
    event Retired(address indexed id, address indexed owner, uint32 sequence);

    /// The owner has not accepted this worker yet.
    error WorkerPending(address id);

    /// The worker is retired, which is final.
    error WorkerRetired(address id);

    /// The worker is offered to somebody else, or to nobody.
    error NotOffered(address id, address caller);

    /// The recipient did not sign this transfer.
    error NotAgreed(address id, address to);

    /// A signature holds at most `bound` bytes.
    error SignatureTooLong(uint256 size, uint256 bound);

    /// @notice Switches a worker on or off: its owner, or an operator with the right.
    function setActive(address id, bool active) external;

    /// @notice Switches several workers on or off: all of them, or none when one cannot be.
    function setActiveBatch(address[] calldata ids, bool active) external;

    /// @notice Suspends a worker, or takes that back; service owner only, and independent of the owner's switch.
    function setSuspended(address id, bool suspended) external;

    /// @notice Offers a worker of the caller to `to`, who becomes its owner by accepting.
    function offerTransfer(address id, address to) external;

    /// @notice Takes the caller's offer of a worker back.
    function cancelTransfer(address id) external;

    /// @notice Accepts a worker that was offered to the caller; its state stays as it is.
    function acceptTransfer(address id) external;

    /// @notice Passes a worker of the caller to `to`, who signed for it.
    /// @param deadline Last second at which the signature is valid, in unix seconds.
    /// @param signature EIP-712 `TakeOver(address worker,address from,uint32 sequence,uint256 deadline)` by `to`, with
    /// the worker's present sequence, so that it serves once; a contract answers for itself (ERC-1271).
    function transferSigned(address id, address to, uint256 deadline, bytes calldata signature) external;

    /// @notice Retires a worker of the caller for good, whoever holds its key; also how a named owner declines a
    /// pending one.
    function retire(address id) external;

    /// @notice To whom a worker is offered; zero when to nobody.
    function pendingOwner(address id) external view returns (address);
}

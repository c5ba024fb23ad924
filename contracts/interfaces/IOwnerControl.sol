// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title What an owner decides about a device
/// @notice Connections are not stored: switching a worker off severs all of them, with one event for everybody.
interface IOwnerControl {
    /// @notice Emitted when an owner switches a worker on or off.
    event ActiveChanged(address indexed id, address indexed owner, bool active, uint24 sequence);

    /// @notice Emitted when the service suspends a worker or takes that back.
    event SuspendedChanged(address indexed id, bool suspended, uint24 sequence);

    /// @notice Emitted when an owner offers a worker to somebody; it replaces an earlier offer.
    event TransferOffered(address indexed id, address indexed from, address indexed to);

    /// @notice Emitted when an offer is taken back, or ends because the worker retires.
    event TransferCancelled(address indexed id, address indexed from, address indexed to);

    /// @notice Emitted when a worker passes to the owner who accepted it.
    event OwnerChanged(address indexed id, address indexed from, address indexed to, uint24 sequence);

    /// @notice Emitted when a worker is retired for good.
    event Retired(address indexed id, address indexed owner, uint24 sequence);

    /// The owner has not accepted this worker yet.
    error WorkerPending(address id);

    /// The worker is retired, which is final.
    error WorkerRetired(address id);

    /// A batch holds from one to `bound` workers.
    error BadBatchSize(uint256 size, uint256 bound);

    /// The worker is offered to somebody else, or to nobody.
    error NotOffered(address id, address caller);

    /// @notice Switches a worker of the caller on or off.
    function setActive(address id, bool active) external;

    /// @notice Switches several workers of the caller on or off: all of them, or none when one cannot be.
    function setActive(address[] calldata ids, bool active) external;

    /// @notice Suspends a worker, or takes that back; service owner only, and independent of the owner's switch.
    function setSuspended(address id, bool suspended) external;

    /// @notice Offers a worker of the caller to `to`, who becomes its owner by accepting.
    function offerTransfer(address id, address to) external;

    /// @notice Takes the caller's offer of a worker back.
    function cancelTransfer(address id) external;

    /// @notice Accepts a worker that was offered to the caller; its state stays as it is.
    function acceptTransfer(address id) external;

    /// @notice Retires a worker of the caller for good; also how a named owner declines a pending one.
    function retire(address id) external;

    /// @notice To whom a worker is offered; zero when to nobody.
    function pendingOwner(address id) external view returns (address);
}

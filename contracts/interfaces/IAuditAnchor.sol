// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title When an audit log said what it says
/// @notice An account anchors its logs as commitments to their Merkle roots, numbered without gaps. Whoever is shown a
/// log later can tell that it has not been rewritten since, and how old it is at least. An anchor shows neither the
/// root nor the length of a log, which would count what its keeper did; and an account vouches for nobody but itself,
/// so that anybody may anchor.
interface IAuditAnchor {
    /// @notice What the contract keeps of a log.
    /// @param number Of its newest anchor, from 1; 0 means there is none.
    /// @param at When that was made, in unix seconds.
    /// @param digest First 24 bytes of its commitment.
    struct Anchor {
        uint32 number;
        uint32 at;
        bytes24 digest;
    }

    /// @notice Emitted for every anchor: its number in the log, and the commitment as a whole.
    event Anchored(address indexed keeper, bytes32 indexed log, uint32 indexed number, bytes32 commitment);

    /// A commitment that must be there is zero.
    error MissingCommitment();

    /// The log's next anchor has another number: somebody else anchors it, or it was set back.
    error NotNext(bytes32 log, uint32 number, uint32 next);

    /// @notice Anchors a log of the caller's, who says which anchor this is to be.
    /// @param commitment Digest of length, root and a secret salt.
    function anchor(bytes32 log, uint32 number, bytes32 commitment) external;

    /// @notice The newest anchor of an account's log.
    function newest(address keeper, bytes32 log) external view returns (Anchor memory);
}

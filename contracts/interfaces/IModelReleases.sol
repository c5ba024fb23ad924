// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Which model release is current
/// @notice A channel is a line of releases for one task. Its sequence only grows: going back to an older model is a new
/// release of it, so that a device never has to accept a lower number.
interface IModelReleases {
    /// @notice One release of a channel.
    /// @param sequence Its number in the channel, from 1; 0 means there is none.
    /// @param publishedAt When it was published, in unix seconds.
    /// @param manifestHash Digest of the manifest, which names the artefact and everything about it.
    /// @param artifactOf The release that first brought this manifest; its own number when it is new.
    /// @param state 1 published, 2 revoked; 0 means there is none.
    struct Release {
        uint32 sequence;
        uint40 publishedAt;
        bytes32 manifestHash;
        uint32 artifactOf;
        uint8 state;
    }

    /// @notice Emitted when a new model becomes the current release of its channel.
    event ReleasePublished(bytes32 indexed channel, uint32 indexed sequence, bytes32 manifestHash);

    /// @notice Emitted when the release `sequence` brings the manifest of the older `target` back.
    event RolledBack(bytes32 indexed channel, uint32 indexed sequence, uint32 target, bytes32 manifestHash);

    /// @notice Emitted when a release is revoked, and with it every release of the same manifest in its channel.
    event ReleaseRevoked(bytes32 indexed channel, uint32 indexed sequence);

    /// @notice Emitted when the right to publish passes on.
    event PublisherChanged(address indexed previous, address indexed current);

    /// Only the publisher publishes.
    error NotPublisher(address caller);

    /// Only the publisher and the owner roll back.
    error NotPublisherOrOwner(address caller);

    /// A release names its manifest.
    error MissingManifest();

    /// The channel has no such release.
    error UnknownRelease(bytes32 channel, uint32 sequence);

    /// The manifest is that of the current release.
    error AlreadyCurrent(bytes32 channel, uint32 sequence);

    /// A revoked manifest never returns.
    error RevokedManifest(bytes32 channel, bytes32 manifestHash);

    /// What is current can be revoked only after a roll-back.
    error StillCurrent(bytes32 channel, uint32 sequence);

    /// @notice Makes a new model the current release of a channel; publisher only.
    /// @return sequence Its number, one more than the last.
    function publish(bytes32 channel, bytes32 manifestHash) external returns (uint32 sequence);

    /// @notice Publishes the manifest of an older release again; publisher or owner.
    /// @return sequence The number of the new release, one more than the last.
    function rollBack(bytes32 channel, uint32 toSequence) external returns (uint32 sequence);

    /// @notice Revokes a release for good, with every release of the same manifest; owner only.
    function revoke(bytes32 channel, uint32 sequence) external;

    /// @notice Passes the right to publish on; owner only. Zero means that nobody may.
    function setPublisher(address current) external;

    /// @notice Who may publish.
    function publisher() external view returns (address);

    /// @notice The current release of a channel; all zero when it has none.
    function current(bytes32 channel) external view returns (Release memory);

    /// @notice A release of a channel; all zero when it has no such release.
    function release(bytes32 channel, uint32 sequence) external view returns (Release memory);
}

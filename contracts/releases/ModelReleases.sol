// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {StandingOwner} from "../control/StandingOwner.sol";
import {Unchanged} from "../interfaces/Errors.sol";
import {IModelReleases} from "../interfaces/IModelReleases.sol";

/// @title The line of model releases
/// @dev What a release holds lies off chain under its manifest's digest; here are the order and what may not return.
contract ModelReleases is IModelReleases, StandingOwner {
    /* CONSTANTS */

    uint8 internal constant PUBLISHED = 1;
    uint8 internal constant REVOKED = 2;

    /* STORAGE */

    /// @dev Its place in the channel's list is its sequence less one.
    struct Entry {
        bytes32 manifestHash;
        uint32 artifactOf;
        uint40 publishedAt;
    }

    mapping(bytes32 channel => Entry[]) private _entries;

    /// @dev By manifest, so that a revoked one returns neither by roll-back nor by publishing it anew.
    mapping(bytes32 channel => mapping(bytes32 manifestHash => bool)) private _revoked;

    /// @inheritdoc IModelReleases
    address public publisher;

    /* CONSTRUCTOR */

    constructor(address initialOwner, address initialPublisher) Ownable(initialOwner) {
        _setPublisher(initialPublisher);
    }

    /* PUBLISHER */

    /// @inheritdoc IModelReleases
    function publish(bytes32 channel, bytes32 manifestHash) external returns (uint32 sequence) {
        require(msg.sender == publisher, NotPublisher(msg.sender));
        require(manifestHash != 0, MissingManifest());
        sequence = _next(channel);
        _append(channel, manifestHash, sequence);
        emit ReleasePublished(channel, sequence, manifestHash);
    }

    /// @inheritdoc IModelReleases
    function rollBack(bytes32 channel, uint32 toSequence) external returns (uint32 sequence) {
        require(msg.sender == publisher || msg.sender == owner(), NotPublisherOrOwner(msg.sender));
        Entry memory target = _known(channel, toSequence);
        sequence = _next(channel);
        _append(channel, target.manifestHash, target.artifactOf);
        emit RolledBack(channel, sequence, toSequence, target.manifestHash);
    }

    /* OWNER */

    /// @inheritdoc IModelReleases
    function revoke(bytes32 channel, uint32 sequence) external onlyOwner {
        bytes32 manifestHash = _known(channel, sequence).manifestHash;
        require(!_revoked[channel][manifestHash], Unchanged());
        require(manifestHash != _currentManifest(channel), StillCurrent(channel, sequence));
        _revoked[channel][manifestHash] = true;
        emit ReleaseRevoked(channel, sequence);
    }

    /// @inheritdoc IModelReleases
    function setPublisher(address current_) external onlyOwner {
        require(current_ != publisher, Unchanged());
        _setPublisher(current_);
    }

    /* VIEWS */

    /// @inheritdoc IModelReleases
    function current(bytes32 channel) external view returns (Release memory) {
        return release(channel, uint32(_entries[channel].length));
    }

    /// @inheritdoc IModelReleases
    function release(bytes32 channel, uint32 sequence) public view returns (Release memory) {
        if (!_exists(channel, sequence)) return Release(0, 0, 0, 0, 0);
        Entry memory entry = _entries[channel][sequence - 1];
        uint8 state = _revoked[channel][entry.manifestHash] ? REVOKED : PUBLISHED;
        return Release(sequence, entry.publishedAt, entry.manifestHash, entry.artifactOf, state);
    }

    /* PRIVATE */

    function _append(bytes32 channel, bytes32 manifestHash, uint32 artifactOf) private {
        require(!_revoked[channel][manifestHash], RevokedManifest(channel, manifestHash));
        uint32 last = uint32(_entries[channel].length);
        require(manifestHash != _currentManifest(channel), AlreadyCurrent(channel, last));
        _entries[channel].push(Entry(manifestHash, artifactOf, uint40(block.timestamp)));
    }

    function _setPublisher(address current_) private {
        emit PublisherChanged(publisher, current_);
        publisher = current_;
    }

    function _next(bytes32 channel) private view returns (uint32) {
        return uint32(_entries[channel].length + 1);
    }

    function _known(bytes32 channel, uint32 sequence) private view returns (Entry memory) {
        require(_exists(channel, sequence), UnknownRelease(channel, sequence));
        return _entries[channel][sequence - 1];
    }

    function _exists(bytes32 channel, uint32 sequence) private view returns (bool) {
        return sequence != 0 && sequence <= _entries[channel].length;
    }

    /// @dev Zero when the channel has no release; no release has a zero manifest.
    function _currentManifest(bytes32 channel) private view returns (bytes32) {
        Entry[] storage entries = _entries[channel];
        return entries.length == 0 ? bytes32(0) : entries[entries.length - 1].manifestHash;
    }
}

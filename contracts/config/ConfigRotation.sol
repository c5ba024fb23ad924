// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {StandingOwner} from "../control/StandingOwner.sol";
import {Unchanged, ZeroAddress} from "../interfaces/Errors.sol";
import {IConfigRotation} from "../interfaces/IConfigRotation.sol";

/// @title The rotation of the messaging configuration
/// @dev At every moment after the first activation `configuration()` holds the one in force.
abstract contract ConfigRotation is IConfigRotation, StandingOwner {
    /* CONSTANTS */

    /// @notice How far ahead a configuration may be announced, in seconds.
    uint256 public constant MAX_LEAD = 7 days;

    /// @notice How long the configuration before may stay accepted, in seconds.
    uint256 public constant MAX_GRACE = 7 days;

    /// @notice Bounds of the least proof of work, times 1e9: zero would let anyone flood, more than the upper one would
    /// exhaust a small device.
    uint256 public constant LEAST_MIN_POW = 1;
    uint256 public constant MOST_MIN_POW = 1000e9;

    /// @notice Bounds of the longest life of an envelope, in seconds: messages are for now, not for keeping.
    uint256 public constant LEAST_MAX_TTL = 1;
    uint256 public constant MOST_MAX_TTL = 1 days;

    /// @notice Bounds of the size of an envelope, in bytes: room for a handshake, and what a Whisper node accepts.
    uint256 public constant LEAST_MAX_SIZE = 8192;
    uint256 public constant MOST_MAX_SIZE = 10 * 1024 * 1024;

    /* STORAGE */

    /// @dev The newest configuration and the one before it, in turns, so that a rotation writes only one of them.
    Configuration[2] private _pair;

    address private _rotator;
    uint64 private _newestBlock;
    uint8 private _newest;

    /* ROTATION */

    /// @inheritdoc IConfigRotation
    function rotate(ConfigurationInput calldata input) external returns (uint32 version) {
        require(msg.sender == owner() || msg.sender == _rotator, NotRotator(msg.sender));
        _check(input);
        Configuration memory newest = _pair[_newest];
        version = newest.version + 1;
        Configuration memory next = Configuration({
            version: version,
            activeFrom: _activation(input.activeFrom, newest.activeFrom),
            grace: input.grace,
            minPow: input.minPow,
            maxTtl: input.maxTtl,
            maxSize: input.maxSize,
            oracle: input.oracle,
            gateway: input.gateway,
            epochKeyCommitment: input.epochKeyCommitment,
            oracleCardDigest: input.oracleCardDigest,
            gatewayCardDigest: input.gatewayCardDigest,
            previousBlock: _newestBlock
        });
        if (newest.activeFrom <= block.timestamp) _newest ^= 1;
        _pair[_newest] = next;
        _newestBlock = uint64(block.number);
        emit ConfigurationRotated(version, next);
    }

    /// @inheritdoc IConfigRotation
    function setRotator(address current) external onlyOwner {
        require(current != _rotator, Unchanged());
        emit RotatorChanged(_rotator, current);
        _rotator = current;
    }

    /* VIEWS */

    /// @inheritdoc IConfigRotation
    function rotator() external view returns (address) {
        return _rotator;
    }

    /// @inheritdoc IConfigRotation
    function configuration() external view returns (Configuration memory latest, Configuration memory previous) {
        return (_pair[_newest], _pair[_newest ^ 1]);
    }

    /* PRIVATE */

    /// @dev Never in the past, and never before a version that still waits for its time.
    function _activation(uint40 wanted, uint40 waiting) private view returns (uint40) {
        uint40 earliest = waiting > block.timestamp ? waiting : uint40(block.timestamp);
        if (wanted == 0) return earliest;
        uint256 latest = block.timestamp + MAX_LEAD;
        require(wanted >= earliest && wanted <= latest, BadActivation(wanted, earliest, latest));
        return wanted;
    }

    function _check(ConfigurationInput calldata input) private pure {
        require(input.grace <= MAX_GRACE, BadGrace(input.grace, MAX_GRACE));
        require(
            input.minPow >= LEAST_MIN_POW && input.minPow <= MOST_MIN_POW,
            BadMinPow(input.minPow, LEAST_MIN_POW, MOST_MIN_POW)
        );
        require(
            input.maxTtl >= LEAST_MAX_TTL && input.maxTtl <= MOST_MAX_TTL,
            BadMaxTtl(input.maxTtl, LEAST_MAX_TTL, MOST_MAX_TTL)
        );
        require(
            input.maxSize >= LEAST_MAX_SIZE && input.maxSize <= MOST_MAX_SIZE,
            BadMaxSize(input.maxSize, LEAST_MAX_SIZE, MOST_MAX_SIZE)
        );
        require(input.oracle != address(0), ZeroAddress());
        require(input.epochKeyCommitment != 0 && input.oracleCardDigest != 0, MissingCommitment());
        require(
            (input.gateway == address(0)) == (input.gatewayCardDigest == 0),
            GatewayWithoutCard(input.gateway, input.gatewayCardDigest)
        );
    }
}

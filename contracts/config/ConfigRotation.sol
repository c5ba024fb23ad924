// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {StandingOwner} from "../control/StandingOwner.sol";
import {Unchanged, ZeroAddress} from "../interfaces/Errors.sol";
import {IConfigRotation} from "../interfaces/IConfigRotation.sol";
import {ConfigurationLine, continued} from "./ConfigurationLine.sol";

/// @title The rotation of the messaging configuration
/// @dev From the first activation on, one configuration is in force at every moment.
abstract contract ConfigRotation is IConfigRotation, StandingOwner, EIP712 {
    /* CONSTANTS */

    /// @notice How far ahead a configuration may be announced, in seconds.
    uint256 internal constant MAX_LEAD = 7 days;

    /// @notice How long the configuration before may stay accepted, in seconds.
    uint256 internal constant MAX_GRACE = 7 days;

    /// @notice The widest bounds of the least proof of work, times 1e9: zero would let anyone flood, more than the upper
    /// one would exhaust a small device.
    uint48 internal constant LEAST_MIN_POW = 1;
    uint48 internal constant MOST_MIN_POW = 1000e9;

    /// @notice Bounds of the longest life of an envelope, in seconds: messages are for now, not for keeping.
    uint256 internal constant LEAST_MAX_TTL = 1;
    uint256 internal constant MOST_MAX_TTL = 1 days;

    /// @notice Bounds of the size of an envelope, in bytes: room for a handshake, and what a Whisper node accepts.
    uint256 internal constant LEAST_MAX_SIZE = 8192;
    uint256 internal constant MOST_MAX_SIZE = 10 * 1024 * 1024;

    bytes32 internal constant CONFIGURATION_TYPEHASH = keccak256(
        "Configuration(uint32 version,uint40 activeFrom,uint32 grace,uint48 minPow,uint32 maxTtl,uint32 maxSize,"
        "address oracle,address gateway,bytes32 epochKeyCommitment,bytes32 oracleCardDigest,"
        "bytes32 gatewayCardDigest,uint48 previousBlock)"
    );

    /* STORAGE */

    ConfigurationLine private _line;

    /// @dev The digests of the newest configuration and of the one before it, in turns.
    bytes32[2] private _digests;

    /// @dev Who rotates and within which bounds, in one slot.
    address private _rotator;
    uint48 private _leastMinPow = LEAST_MIN_POW;
    uint48 private _mostMinPow = MOST_MIN_POW;

    /* ROTATION */

    /// @inheritdoc IConfigRotation
    function rotate(ConfigurationInput calldata input) external returns (uint32 version) {
        ConfigurationLine line = _line;
        uint256 until = line.graceEnds();
        bool promised = line.previousVersion() != 0 && !line.waits() && block.timestamp < until;
        require(!promised, GraceRunning(until));
        return _rotate(input, line, _activation(input.activeFrom, line.activeFrom()));
    }

    /// @inheritdoc IConfigRotation
    function rotateAtOnce(ConfigurationInput calldata input) external returns (uint32 version) {
        require(input.activeFrom == 0, BadActivation(input.activeFrom, block.timestamp, block.timestamp));
        require(input.grace == 0, BadGrace(input.grace, 0));
        return _rotate(input, _line, uint40(block.timestamp));
    }

    /* SERVICE OWNER */

    /// @inheritdoc IConfigRotation
    function setRotator(address current) external onlyOwner {
        require(current != _rotator, Unchanged());
        emit RotatorChanged(_rotator, current);
        _rotator = current;
    }

    /// @inheritdoc IConfigRotation
    function setPowBounds(uint48 least, uint48 most) external onlyOwner {
        require(least >= LEAST_MIN_POW && least <= most, BadMinPow(least, LEAST_MIN_POW, most));
        require(most <= MOST_MIN_POW, BadMinPow(most, least, MOST_MIN_POW));
        require(least != _leastMinPow || most != _mostMinPow, Unchanged());
        (_leastMinPow, _mostMinPow) = (least, most);
        emit PowBoundsChanged(least, most);
    }

    /* VIEWS */

    /// @inheritdoc IConfigRotation
    function rotator() external view returns (address) {
        return _rotator;
    }

    /// @inheritdoc IConfigRotation
    function powBounds() external view returns (uint256 least, uint256 most) {
        return (_leastMinPow, _mostMinPow);
    }

    /// @inheritdoc IConfigRotation
    function configuration() external view returns (Anchor memory) {
        ConfigurationLine line = _line;
        return Anchor({
            version: line.version(),
            activeFrom: line.activeFrom(),
            grace: line.grace(),
            newestBlock: line.newestBlock(),
            digest: _digests[line.turn()],
            previousVersion: line.previousVersion(),
            previousBlock: line.previousBlock(),
            previousDigest: _digests[line.turn() ^ 1]
        });
    }

    /// @inheritdoc IConfigRotation
    function accepts(bytes32 digest) external view returns (bool) {
        ConfigurationLine line = _line;
        if (digest == 0) return false;
        if (digest == _digests[line.turn()]) return !line.waits();
        return digest == _digests[line.turn() ^ 1] && block.timestamp < line.graceEnds();
    }

    /// @inheritdoc IConfigRotation
    function digestOf(Configuration memory configuration_) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(CONFIGURATION_TYPEHASH, configuration_)));
    }

    /* PRIVATE */

    function _rotate(ConfigurationInput calldata input, ConfigurationLine line, uint40 activeFrom)
        private
        returns (uint32 version)
    {
        version = line.version() + 1;
        Configuration memory set = Configuration({
            version: version,
            activeFrom: activeFrom,
            grace: input.grace,
            minPow: input.minPow,
            maxTtl: input.maxTtl,
            maxSize: input.maxSize,
            oracle: input.oracle,
            gateway: input.gateway,
            epochKeyCommitment: input.epochKeyCommitment,
            oracleCardDigest: input.oracleCardDigest,
            gatewayCardDigest: input.gatewayCardDigest,
            previousBlock: line.newestBlock()
        });
        _check(set);
        ConfigurationLine next = continued(line, activeFrom, set.grace);
        _line = next;
        _digests[next.turn()] = digestOf(set);
        emit ConfigurationRotated(version, set);
    }

    /// @dev Never in the past, and never before a version that still waits for its time.
    function _activation(uint40 wanted, uint40 waiting) private view returns (uint40) {
        uint40 earliest = waiting > block.timestamp ? waiting : uint40(block.timestamp);
        if (wanted == 0) return earliest;
        uint256 latest = block.timestamp + MAX_LEAD;
        require(wanted >= earliest && wanted <= latest, BadActivation(wanted, earliest, latest));
        return wanted;
    }

    function _check(Configuration memory set) private view {
        (uint48 least, uint48 most) = (_leastMinPow, _mostMinPow);
        require(msg.sender == _rotator || msg.sender == owner(), NotRotator(msg.sender));
        require(set.minPow >= least && set.minPow <= most, BadMinPow(set.minPow, least, most));
        require(set.grace <= MAX_GRACE, BadGrace(set.grace, MAX_GRACE));
        require(
            set.maxTtl >= LEAST_MAX_TTL && set.maxTtl <= MOST_MAX_TTL,
            BadMaxTtl(set.maxTtl, LEAST_MAX_TTL, MOST_MAX_TTL)
        );
        require(
            set.maxSize >= LEAST_MAX_SIZE && set.maxSize <= MOST_MAX_SIZE,
            BadMaxSize(set.maxSize, LEAST_MAX_SIZE, MOST_MAX_SIZE)
        );
        require(set.oracle != address(0), ZeroAddress());
        require(set.epochKeyCommitment != 0 && set.oracleCardDigest != 0, MissingCommitment());
        require(
            (set.gateway == address(0)) == (set.gatewayCardDigest == 0),
            GatewayWithoutCard(set.gateway, set.gatewayCardDigest)
        );
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @dev Where the line of configurations stands, in one storage slot. From the right: version (32), activeFrom (40),
/// grace (32) and block (48) of the newest; version (32) and block (48) of the one that was in force when it was set;
/// which of two slots holds the newest digest (8).
type ConfigurationLine is uint256;

using {
    version,
    activeFrom,
    grace,
    newestBlock,
    previousVersion,
    previousBlock,
    turn,
    waits,
    graceEnds
} for ConfigurationLine global;

uint256 constant ACTIVE_FROM_AT = 32;
uint256 constant GRACE_AT = 72;
uint256 constant NEWEST_BLOCK_AT = 104;
uint256 constant PREVIOUS_VERSION_AT = 152;
uint256 constant PREVIOUS_BLOCK_AT = 184;
uint256 constant TURN_AT = 232;

/// @dev A version that still waits is replaced in its place; one in force becomes the previous.
function continued(ConfigurationLine line, uint40 activeFrom_, uint32 grace_) view returns (ConfigurationLine) {
    bool replaces = line.waits();
    return ConfigurationLine.wrap(
        (uint256(line.version()) + 1) | uint256(activeFrom_) << ACTIVE_FROM_AT | uint256(grace_) << GRACE_AT
            | uint256(uint48(block.number)) << NEWEST_BLOCK_AT
            | uint256(replaces ? line.previousVersion() : line.version()) << PREVIOUS_VERSION_AT
            | uint256(replaces ? line.previousBlock() : line.newestBlock()) << PREVIOUS_BLOCK_AT
            | uint256(replaces ? line.turn() : line.turn() ^ 1) << TURN_AT
    );
}

// A reader cuts its own field out of the word: truncating is what it is for.
// forge-lint: disable-start(unsafe-typecast)

function version(ConfigurationLine line) pure returns (uint32) {
    return uint32(ConfigurationLine.unwrap(line));
}

function activeFrom(ConfigurationLine line) pure returns (uint40) {
    return uint40(ConfigurationLine.unwrap(line) >> ACTIVE_FROM_AT);
}

function grace(ConfigurationLine line) pure returns (uint32) {
    return uint32(ConfigurationLine.unwrap(line) >> GRACE_AT);
}

function newestBlock(ConfigurationLine line) pure returns (uint48) {
    return uint48(ConfigurationLine.unwrap(line) >> NEWEST_BLOCK_AT);
}

function previousVersion(ConfigurationLine line) pure returns (uint32) {
    return uint32(ConfigurationLine.unwrap(line) >> PREVIOUS_VERSION_AT);
}

function previousBlock(ConfigurationLine line) pure returns (uint48) {
    return uint48(ConfigurationLine.unwrap(line) >> PREVIOUS_BLOCK_AT);
}

function turn(ConfigurationLine line) pure returns (uint8) {
    return uint8(ConfigurationLine.unwrap(line) >> TURN_AT);
}

// forge-lint: disable-end(unsafe-typecast)

/// @dev Whether the newest is not in force yet.
function waits(ConfigurationLine line) view returns (bool) {
    return line.activeFrom() > block.timestamp;
}

/// @dev When the previous ceases to be accepted.
function graceEnds(ConfigurationLine line) pure returns (uint256) {
    return uint256(line.activeFrom()) + line.grace();
}

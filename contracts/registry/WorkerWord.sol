// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @dev What one key is, in one storage slot. A worker's first key holds the worker: from the right owner (160 bits),
/// kind (8), flags (8), epoch (16), since (32), sequence (32). A key it was given later holds the worker's id (160),
/// kind zero, the flag ALIAS and its epoch (16). All zero: a key nobody has used.
type WorkerWord is uint256;

using {
    isBlank,
    isWorker,
    isAlias,
    holder,
    kind,
    flags,
    epoch,
    since,
    sequence,
    has,
    toggled,
    withFlags,
    withHolder,
    inNextEpoch,
    numberedNext
} for WorkerWord global;

uint8 constant ACTIVE = 1;
uint8 constant SUSPENDED = 2;
uint8 constant PENDING = 4;
uint8 constant RETIRED = 8;
uint8 constant ALIAS = 128;

uint256 constant KIND_AT = 160;
uint256 constant FLAGS_AT = 168;
uint256 constant EPOCH_AT = 176;
uint256 constant SINCE_AT = 192;
uint256 constant SEQUENCE_AT = 224;

function newWorker(address owner, uint8 kind_, uint8 flags_) view returns (WorkerWord) {
    return WorkerWord.wrap(
        uint256(uint160(owner)) | uint256(kind_) << KIND_AT | uint256(flags_) << FLAGS_AT
            | uint256(uint32(block.timestamp)) << SINCE_AT | 1 << SEQUENCE_AT
    );
}

function newAlias(address id, uint16 epoch_) pure returns (WorkerWord) {
    return WorkerWord.wrap(uint256(uint160(id)) | uint256(ALIAS) << FLAGS_AT | uint256(epoch_) << EPOCH_AT);
}

function isBlank(WorkerWord word) pure returns (bool) {
    return WorkerWord.unwrap(word) == 0;
}

function isWorker(WorkerWord word) pure returns (bool) {
    return kind(word) != 0;
}

function isAlias(WorkerWord word) pure returns (bool) {
    return has(word, ALIAS);
}

// A reader cuts its own field out of the word: truncating is what it is for.
// forge-lint: disable-start(unsafe-typecast)

/// @dev A worker's owner, or the worker an alias belongs to.
function holder(WorkerWord word) pure returns (address) {
    return address(uint160(WorkerWord.unwrap(word)));
}

function kind(WorkerWord word) pure returns (uint8) {
    return uint8(WorkerWord.unwrap(word) >> KIND_AT);
}

function flags(WorkerWord word) pure returns (uint8) {
    return uint8(WorkerWord.unwrap(word) >> FLAGS_AT);
}

function epoch(WorkerWord word) pure returns (uint16) {
    return uint16(WorkerWord.unwrap(word) >> EPOCH_AT);
}

function since(WorkerWord word) pure returns (uint32) {
    return uint32(WorkerWord.unwrap(word) >> SINCE_AT);
}

function sequence(WorkerWord word) pure returns (uint32) {
    return uint32(WorkerWord.unwrap(word) >> SEQUENCE_AT);
}

// forge-lint: disable-end(unsafe-typecast)

function has(WorkerWord word, uint8 flag) pure returns (bool) {
    return flags(word) & flag != 0;
}

function toggled(WorkerWord word, uint8 mask) pure returns (WorkerWord) {
    return WorkerWord.wrap(WorkerWord.unwrap(word) ^ uint256(mask) << FLAGS_AT);
}

function withFlags(WorkerWord word, uint8 flags_) pure returns (WorkerWord) {
    return WorkerWord.wrap(WorkerWord.unwrap(word) & ~(uint256(0xff) << FLAGS_AT) | uint256(flags_) << FLAGS_AT);
}

function withHolder(WorkerWord word, address owner) pure returns (WorkerWord) {
    return WorkerWord.wrap(WorkerWord.unwrap(word) & ~uint256(type(uint160).max) | uint160(owner));
}

/// @dev The caller checks that an epoch is left: the field would run over into the next one.
function inNextEpoch(WorkerWord word) pure returns (WorkerWord) {
    unchecked {
        return WorkerWord.wrap(WorkerWord.unwrap(word) + (1 << EPOCH_AT));
    }
}

/// @dev The sequence lies at the top, so that no other field could be reached: four billion changes of one worker
/// would fill every block for more than a year before it began anew.
function numberedNext(WorkerWord word) pure returns (WorkerWord) {
    unchecked {
        return WorkerWord.wrap(WorkerWord.unwrap(word) + (1 << SEQUENCE_AT));
    }
}

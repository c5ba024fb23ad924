// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelReleases} from "../interfaces/IModelReleases.sol";

/// @dev Where a channel stands, in one storage slot. From the right: sequence (32), completed (32), floor (32), state
/// (8), wave (8), waveCount (8), since (32), notBefore (32), expiresAt (32), soak (24).
type HeadWord is uint256;

/// @dev What is kept of a release, in one storage slot. From the right: sequence (32), flags (8), nothing (24), the
/// first 24 bytes of the digest of its terms (192).
type ReleaseWord is uint256;

using {
    sequence,
    completed,
    floor,
    state,
    wave,
    waveCount,
    since,
    notBefore,
    expiresAt,
    soak,
    withState,
    withWave,
    withFloor,
    asCompleted,
    followedBack,
    touched
} for HeadWord global;

using {offeredAs, isCompleted, isRevoked, termsDigest, withFlag, offered} for ReleaseWord global;

uint8 constant PROPOSED = 1;
uint8 constant APPROVED = 2;
uint8 constant ROLLING = 3;
uint8 constant PAUSED = 4;
uint8 constant COMPLETED = 5;
uint8 constant REVOKED = 6;

uint256 constant FLAG_COMPLETED = 1 << 32;
uint256 constant FLAG_REVOKED = 2 << 32;

uint256 constant COMPLETED_AT = 32;
uint256 constant FLOOR_AT = 64;
uint256 constant STATE_AT = 96;
uint256 constant WAVE_AT = 104;
uint256 constant WAVE_COUNT_AT = 112;
uint256 constant SINCE_AT = 120;
uint256 constant NOT_BEFORE_AT = 152;
uint256 constant EXPIRES_AT_AT = 184;
uint256 constant SOAK_AT = 216;

uint256 constant KEPT = type(uint96).max; // sequence, completed and floor go on from release to release

/* HEAD */

/// @dev The head after another release was proposed.
function proposed(HeadWord word, IModelReleases.Terms calldata terms) pure returns (HeadWord) {
    return HeadWord.wrap(
        (HeadWord.unwrap(word) & KEPT) + 1 | uint256(PROPOSED) << STATE_AT | uint256(terms.waveCount) << WAVE_COUNT_AT
            | uint256(terms.notBefore) << NOT_BEFORE_AT | uint256(terms.expiresAt) << EXPIRES_AT_AT
            | uint256(terms.soak) << SOAK_AT
    );
}

/// @dev The head after another release was completed at once.
function followedBack(HeadWord word) view returns (HeadWord) {
    return HeadWord.wrap((HeadWord.unwrap(word) & KEPT) + 1).withState(COMPLETED).asCompleted().touched();
}

// A reader cuts its own field out of the word: truncating is what it is for.
// forge-lint: disable-start(unsafe-typecast)

function sequence(HeadWord word) pure returns (uint32) {
    return uint32(HeadWord.unwrap(word));
}

function completed(HeadWord word) pure returns (uint32) {
    return uint32(HeadWord.unwrap(word) >> COMPLETED_AT);
}

function floor(HeadWord word) pure returns (uint32) {
    return uint32(HeadWord.unwrap(word) >> FLOOR_AT);
}

function state(HeadWord word) pure returns (uint8) {
    return uint8(HeadWord.unwrap(word) >> STATE_AT);
}

function wave(HeadWord word) pure returns (uint8) {
    return uint8(HeadWord.unwrap(word) >> WAVE_AT);
}

function waveCount(HeadWord word) pure returns (uint8) {
    return uint8(HeadWord.unwrap(word) >> WAVE_COUNT_AT);
}

function since(HeadWord word) pure returns (uint32) {
    return uint32(HeadWord.unwrap(word) >> SINCE_AT);
}

function notBefore(HeadWord word) pure returns (uint32) {
    return uint32(HeadWord.unwrap(word) >> NOT_BEFORE_AT);
}

function expiresAt(HeadWord word) pure returns (uint32) {
    return uint32(HeadWord.unwrap(word) >> EXPIRES_AT_AT);
}

function soak(HeadWord word) pure returns (uint24) {
    return uint24(HeadWord.unwrap(word) >> SOAK_AT);
}

// forge-lint: disable-end(unsafe-typecast)

function withState(HeadWord word, uint8 state_) pure returns (HeadWord) {
    return HeadWord.wrap(HeadWord.unwrap(word) & ~(uint256(0xff) << STATE_AT) | uint256(state_) << STATE_AT);
}

/// @dev The caller checks that a wave is left: the field would run over into the next one.
function withWave(HeadWord word) pure returns (HeadWord) {
    unchecked {
        return HeadWord.wrap(HeadWord.unwrap(word) + (1 << WAVE_AT));
    }
}

function withFloor(HeadWord word, uint32 floor_) pure returns (HeadWord) {
    return HeadWord.wrap(HeadWord.unwrap(word) & ~(uint256(type(uint32).max) << FLOOR_AT) | uint256(floor_) << FLOOR_AT);
}

function asCompleted(HeadWord word) pure returns (HeadWord) {
    return HeadWord.wrap(
        HeadWord.unwrap(word) & ~(uint256(type(uint32).max) << COMPLETED_AT) | uint256(word.sequence()) << COMPLETED_AT
    );
}

function touched(HeadWord word) view returns (HeadWord) {
    return HeadWord.wrap(
        HeadWord.unwrap(word) & ~(uint256(type(uint32).max) << SINCE_AT) | uint256(uint32(block.timestamp)) << SINCE_AT
    );
}

/* RELEASE */

function newRelease(uint32 sequence_, IModelReleases.Terms calldata terms) pure returns (ReleaseWord) {
    return ReleaseWord.wrap(uint256(uint192(digestOf(terms))) << 64 | sequence_);
}

function digestOf(IModelReleases.Terms calldata terms) pure returns (bytes24) {
    return bytes24(keccak256(abi.encode(terms)));
}

function offeredAs(ReleaseWord word) pure returns (uint32) {
    return uint32(ReleaseWord.unwrap(word));
}

function isCompleted(ReleaseWord word) pure returns (bool) {
    return ReleaseWord.unwrap(word) & FLAG_COMPLETED != 0;
}

function isRevoked(ReleaseWord word) pure returns (bool) {
    return ReleaseWord.unwrap(word) & FLAG_REVOKED != 0;
}

function termsDigest(ReleaseWord word) pure returns (bytes24) {
    return bytes24(uint192(ReleaseWord.unwrap(word) >> 64));
}

function withFlag(ReleaseWord word, uint256 flag) pure returns (ReleaseWord) {
    return ReleaseWord.wrap(ReleaseWord.unwrap(word) | flag);
}

/// @dev The same release under another number.
function offered(ReleaseWord word, uint32 sequence_) pure returns (ReleaseWord) {
    return ReleaseWord.wrap(ReleaseWord.unwrap(word) & ~uint256(type(uint32).max) | sequence_);
}

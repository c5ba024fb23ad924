// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ConfigurationLine, continued} from "../../../contracts/config/ConfigurationLine.sol";
import {IModelReleases} from "../../../contracts/interfaces/IModelReleases.sol";
import {ALIAS, WorkerWord, newAlias, newWorker} from "../../../contracts/registry/WorkerWord.sol";
import {
    COMPLETED,
    FLAG_COMPLETED,
    FLAG_REVOKED,
    HeadWord,
    PROPOSED,
    ReleaseWord,
    newRelease,
    proposed
} from "../../../contracts/releases/ReleaseWords.sol";
import {vm} from "../Vm.sol";

/// @dev What is packed into one slot comes out again as it went in, and a change of one field leaves the others alone.
contract WordsTest {
    /* WORKER */

    function testFuzz_33_newWorker__anyFields__readBack(address owner, uint8 kind, uint8 flags, uint32 time) public {
        vm.warp(time);
        WorkerWord word = newWorker(owner, kind, flags);
        vm.assertTrue(word.holder() == owner && word.kind() == kind && word.flags() == flags);
        vm.assertTrue(word.since() == time && word.epoch() == 0 && word.sequence() == 1);
        vm.assertTrue(word.isWorker() == (kind != 0) && !word.isBlank());
    }

    function testFuzz_33_newAlias__anyFields__readBack(address id, uint16 epoch) public pure {
        WorkerWord word = newAlias(id, epoch);
        vm.assertTrue(word.isAlias() && !word.isWorker() && !word.isBlank());
        vm.assertTrue(word.holder() == id && word.epoch() == epoch && word.flags() == ALIAS);
        vm.assertTrue(word.since() == 0 && word.sequence() == 0);
    }

    function testFuzz_33_workerWord__anyChange__oneFieldAlone(uint256 any, uint8 flags, address owner) public pure {
        WorkerWord word = WorkerWord.wrap(any);
        vm.assertEq(WorkerWord.unwrap(word.toggled(flags)), any ^ uint256(flags) << 168);
        vm.assertEq(word.withFlags(flags).flags(), flags);
        vm.assertEq(_without(WorkerWord.unwrap(word.withFlags(flags)), 168, 8), _without(any, 168, 8));
        vm.assertEq(word.withHolder(owner).holder(), owner);
        vm.assertEq(_without(WorkerWord.unwrap(word.withHolder(owner)), 0, 160), _without(any, 0, 160));
        vm.assertEq(word.has(flags), uint8(any >> 168) & flags != 0);
    }

    function testFuzz_33_workerWord__counted__oneFieldAlone(uint256 any) public pure {
        WorkerWord word = WorkerWord.wrap(any);
        uint256 numbered = WorkerWord.unwrap(word.numberedNext());
        vm.assertEq(_without(numbered, 224, 32), _without(any, 224, 32));
        unchecked {
            vm.assertEq(word.numberedNext().sequence(), word.sequence() + 1);
        }
        if (word.epoch() == type(uint16).max) return;
        vm.assertEq(word.inNextEpoch().epoch(), word.epoch() + 1);
        vm.assertEq(_without(WorkerWord.unwrap(word.inNextEpoch()), 176, 16), _without(any, 176, 16));
    }

    /* CONFIGURATION */

    struct Line {
        uint32 version;
        uint40 activeFrom;
        uint32 grace;
        uint48 newestBlock;
        uint32 previousVersion;
        uint48 previousBlock;
        uint8 turn;
    }

    function testFuzz_15_continued__inForce__becomesThePrevious(
        Line memory old,
        uint40 from,
        uint32 grace,
        uint48 block_
    ) public {
        _at(old.activeFrom, block_);
        vm.assume(old.version != type(uint32).max);
        old.turn &= 1;
        Line memory expected = Line(old.version + 1, from, grace, block_, old.version, old.newestBlock, old.turn ^ 1);
        _assertLine(continued(_packed(old), from, grace), expected);
    }

    function testFuzz_15_continued__waiting__isReplacedInItsPlace(
        Line memory old,
        uint40 from,
        uint32 grace,
        uint48 block_
    ) public {
        vm.assume(old.activeFrom != 0 && old.version != type(uint32).max);
        _at(old.activeFrom - 1, block_);
        old.turn &= 1;
        Line memory expected =
            Line(old.version + 1, from, grace, block_, old.previousVersion, old.previousBlock, old.turn);
        _assertLine(continued(_packed(old), from, grace), expected);
    }

    function testFuzz_14_graceEnds__anyLine__activationAndGrace(Line memory any) public pure {
        vm.assertEq(_packed(any).graceEnds(), uint256(any.activeFrom) + any.grace);
        _assertLine(_packed(any), any);
    }

    /* RELEASES */

    function testFuzz_21_proposed__anyHead__keepsWhatGoesOn(uint256 any, IModelReleases.Terms calldata terms)
        public
        pure
    {
        HeadWord old = HeadWord.wrap(any);
        vm.assume(old.sequence() != type(uint32).max);
        HeadWord word = proposed(old, terms);
        vm.assertEq(word.sequence(), old.sequence() + 1);
        vm.assertTrue(word.completed() == old.completed() && word.floor() == old.floor());
        vm.assertTrue(word.state() == PROPOSED && word.wave() == 0 && word.since() == 0);
        vm.assertTrue(word.waveCount() == terms.waveCount && word.soak() == terms.soak);
        vm.assertTrue(word.notBefore() == terms.notBefore && word.expiresAt() == terms.expiresAt);
    }

    function testFuzz_24_followedBack__anyHead__completedAtOnce(uint256 any, uint32 time) public {
        HeadWord old = HeadWord.wrap(any);
        vm.assume(old.sequence() != type(uint32).max);
        vm.warp(time);
        HeadWord word = old.followedBack();
        vm.assertTrue(word.sequence() == old.sequence() + 1 && word.completed() == word.sequence());
        vm.assertTrue(word.floor() == old.floor() && word.state() == COMPLETED && word.since() == time);
        vm.assertEq(_without(HeadWord.unwrap(word) >> 104, 16, 32), 0, "nothing else");
    }

    function testFuzz_23_headWord__anyChange__oneFieldAlone(uint256 any, uint8 state, uint32 floor, uint32 time)
        public
    {
        HeadWord word = HeadWord.wrap(any);
        vm.warp(time);
        vm.assertTrue(word.withState(state).state() == state && word.withFloor(floor).floor() == floor);
        vm.assertTrue(word.touched().since() == time && word.asCompleted().completed() == word.sequence());
        vm.assertEq(_without(HeadWord.unwrap(word.withState(state)), 96, 8), _without(any, 96, 8));
        vm.assertEq(_without(HeadWord.unwrap(word.withFloor(floor)), 64, 32), _without(any, 64, 32));
        vm.assertEq(_without(HeadWord.unwrap(word.touched()), 120, 32), _without(any, 120, 32));
        vm.assertEq(_without(HeadWord.unwrap(word.asCompleted()), 32, 32), _without(any, 32, 32));
        if (word.wave() == type(uint8).max) return;
        vm.assertEq(word.withWave().wave(), word.wave() + 1);
        vm.assertEq(_without(HeadWord.unwrap(word.withWave()), 104, 8), _without(any, 104, 8));
    }

    function testFuzz_21_newRelease__anyTerms__digestAndSequence(uint32 sequence, IModelReleases.Terms calldata terms)
        public
        pure
    {
        ReleaseWord word = newRelease(sequence, terms);
        vm.assertEq(word.offeredAs(), sequence);
        vm.assertTrue(word.termsDigest() == bytes24(keccak256(abi.encode(terms))));
        vm.assertFalse(word.isCompleted() || word.isRevoked());
    }

    function testFuzz_24_releaseWord__anyChange__oneFieldAlone(uint256 any, uint32 sequence) public pure {
        ReleaseWord word = ReleaseWord.wrap(any);
        vm.assertEq(ReleaseWord.unwrap(word.withFlag(FLAG_COMPLETED)), any | 1 << 32);
        vm.assertEq(ReleaseWord.unwrap(word.withFlag(FLAG_REVOKED)), any | 1 << 33);
        vm.assertTrue(word.withFlag(FLAG_COMPLETED).isCompleted() && word.withFlag(FLAG_REVOKED).isRevoked());
        vm.assertEq(word.offered(sequence).offeredAs(), sequence);
        vm.assertEq(_without(ReleaseWord.unwrap(word.offered(sequence)), 0, 32), _without(any, 0, 32));
    }

    /* HELPERS */

    function _without(uint256 word, uint256 at, uint256 bits) private pure returns (uint256) {
        return word & ~(((1 << bits) - 1) << at);
    }

    function _at(uint40 time, uint48 height) private {
        vm.warp(time);
        vm.roll(height);
    }

    /// @dev The documented layout, spelled out once more.
    function _packed(Line memory line) private pure returns (ConfigurationLine) {
        return ConfigurationLine.wrap(
            uint256(
                uint240(
                    bytes30(
                        abi.encodePacked(
                            line.turn,
                            line.previousBlock,
                            line.previousVersion,
                            line.newestBlock,
                            line.grace,
                            line.activeFrom,
                            line.version
                        )
                    )
                )
            )
        );
    }

    function _assertLine(ConfigurationLine line, Line memory expected) private pure {
        vm.assertEq(ConfigurationLine.unwrap(line), ConfigurationLine.unwrap(_packed(expected)));
        vm.assertTrue(line.version() == expected.version && line.activeFrom() == expected.activeFrom);
        vm.assertTrue(line.grace() == expected.grace && line.newestBlock() == expected.newestBlock);
        vm.assertTrue(line.previousVersion() == expected.previousVersion && line.turn() == expected.turn);
        vm.assertEq(line.previousBlock(), expected.previousBlock);
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {Unchanged} from "../../../contracts/interfaces/Errors.sol";
import {IBootstrapList} from "../../../contracts/interfaces/IBootstrapList.sol";
import {Fleet} from "../Fleet.sol";
import {Vm, vm} from "../Vm.sol";

contract BootstrapTest is Fleet {
    function setUp() public {
        _deployService();
        vm.prank(serviceOwner);
        service.setRotator(rotator);
    }

    /// The event tells everything, the digest is the documented one, and the anchor leads to the event.
    function testFuzz_15_setBootstrap__anyList__eventDigestAndAnchorAgree(uint8 count, bytes32 seed) public {
        string[] memory enodes = _enodes(_bound(count, 1, 16), seed);
        vm.recordLogs();
        _name(enodes);
        Vm.Log memory log = _oneEvent();
        vm.assertEq(log.topics[0], IBootstrapList.BootstrapNamed.selector);
        vm.assertTrue(log.topics.length == 2 && uint256(log.topics[1]) == 1);
        vm.assertEq(log.data, abi.encode(enodes, uint48(0)));
        _assertAnchor(1, block.number, bytes22(keccak256(abi.encode(enodes))));
    }

    function testFuzz_15_setBootstrap__againAndAgain__eachLeadsToTheOneBefore(uint8 count, bytes32 seed) public {
        uint256 before;
        for (uint32 version = 1; version <= 3; ++version) {
            string[] memory enodes = _enodes(_bound(count, 1, 16), keccak256(abi.encode(seed, version)));
            vm.expectEmit(address(service));
            emit IBootstrapList.BootstrapNamed(version, enodes, uint48(before));
            _name(enodes);
            _assertAnchor(version, block.number, bytes22(keccak256(abi.encode(enodes))));
            before = block.number;
            vm.roll(before + _bound(uint256(seed), 0, 1000));
        }
    }

    function test_15_setBootstrap__none__takesTheListBack() public {
        _name(_enodes(2, "a"));
        vm.roll(block.number + 7);
        vm.expectEmit(address(service));
        emit IBootstrapList.BootstrapNamed(2, new string[](0), uint48(block.number - 7));
        _name(new string[](0));
        _assertAnchor(2, block.number, 0);
    }

    function testFuzz_12_setBootstrap__byAnotherThanTheServiceOwner__refused(address caller) public {
        vm.assume(caller != serviceOwner && caller != address(vm));
        _refusedTo(caller);
        _refusedTo(rotator);
        _assertAnchor(0, 0, 0);
    }

    function test_31_setBootstrap__atEachBound__taken() public {
        string[] memory enodes = _enodes(16, "a");
        (enodes[0], enodes[15]) = (string(new bytes(140)), string(new bytes(200)));
        _name(enodes);
        _assertAnchor(1, block.number, bytes22(keccak256(abi.encode(enodes))));
    }

    function test_31_setBootstrap__oneTooMany__refused() public {
        vm.expectRevert(abi.encodeWithSelector(IBootstrapList.TooManyEnodes.selector, 17, 16));
        _name(_enodes(17, "a"));
    }

    function testFuzz_31_setBootstrap__aSizeOutOfBounds__namesItsPlace(uint8 at, uint16 size) public {
        vm.assume(size < 140 || size > 200);
        at = uint8(_bound(at, 0, 15));
        _refused(at, size);
    }

    function test_31_setBootstrap__justOutOfBounds__refused() public {
        _refused(0, 139);
        _refused(15, 201);
        _refused(3, 0);
    }

    function test_34_setBootstrap__toWhatItIs__refused() public {
        bytes memory why = abi.encodeWithSelector(Unchanged.selector);
        vm.expectRevert(why);
        _name(new string[](0));
        string[] memory enodes = _enodes(2, "a");
        _name(enodes);
        vm.expectRevert(why);
        _name(enodes);
        (enodes[0], enodes[1]) = (enodes[1], enodes[0]);
        _name(enodes);
        _name(new string[](0));
        vm.expectRevert(why);
        _name(new string[](0));
    }

    /* HELPERS */

    function _name(string[] memory enodes) private {
        vm.prank(serviceOwner);
        service.setBootstrap(enodes);
    }

    function _refusedTo(address caller) private {
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, caller));
        vm.prank(caller);
        service.setBootstrap(_enodes(1, "a"));
    }

    function _refused(uint256 at, uint256 size) private {
        string[] memory enodes = _enodes(16, "a");
        enodes[at] = string(new bytes(size));
        vm.expectRevert(abi.encodeWithSelector(IBootstrapList.BadEnodeSize.selector, at, size, 140, 200));
        _name(enodes);
    }

    function _assertAnchor(uint256 version, uint256 height, bytes22 digest) private view {
        (uint32 version_, uint48 height_, bytes22 digest_) = service.bootstrap();
        vm.assertTrue(version_ == version && height_ == height && digest_ == digest);
    }
}

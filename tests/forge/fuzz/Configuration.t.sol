// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Service} from "../../../contracts/Service.sol";
import {Unchanged, ZeroAddress} from "../../../contracts/interfaces/Errors.sol";
import {IConfigRotation} from "../../../contracts/interfaces/IConfigRotation.sol";
import {Fleet} from "../Fleet.sol";
import {Vm, vm} from "../Vm.sol";

contract ConfigurationTest is Fleet {
    function setUp() public {
        _deployService();
        vm.prank(serviceOwner);
        service.setRotator(rotator);
    }

    /// The event tells everything, the digest is the documented one, and the anchor leads to the event.
    function testFuzz_15_rotate__anyInput__eventDigestAndAnchorAgree(
        IConfigRotation.ConfigurationInput memory input,
        bool owned
    ) public {
        _fit(input);
        vm.recordLogs();
        vm.prank(owned ? serviceOwner : rotator);
        uint32 version = service.rotate(input);
        Vm.Log memory log = _oneEvent();
        vm.assertEq(log.topics[0], IConfigRotation.ConfigurationRotated.selector);
        vm.assertEq(uint256(log.topics[1]), version);
        IConfigRotation.Configuration memory set = _expected(input, 1, _now(), 0);
        if (input.activeFrom != 0) set.activeFrom = input.activeFrom;
        vm.assertEq(log.data, abi.encode(set));
        bytes32 digest = _configurationDigest(service, set);
        vm.assertEq(service.digestOf(set), digest);
        IConfigRotation.Anchor memory anchor = service.configuration();
        vm.assertTrue(anchor.version == 1 && anchor.digest == digest && anchor.newestBlock == block.number);
        vm.assertTrue(anchor.activeFrom == set.activeFrom && anchor.grace == set.grace);
        vm.assertTrue(anchor.previousVersion == 0 && anchor.previousBlock == 0 && anchor.previousDigest == 0);
        vm.warp(set.activeFrom);
        vm.assertTrue(service.accepts(digest));
    }

    function testFuzz_10_digestOf__anotherContractOrChain__another(
        IConfigRotation.Configuration memory set,
        uint64 chain
    ) public {
        vm.assume(chain != 0 && chain != block.chainid);
        bytes32 digest = service.digestOf(set);
        vm.assertTrue(new Service(serviceOwner, FEE, FEE_CAP).digestOf(set) != digest);
        vm.chainId(chain);
        vm.assertTrue(service.digestOf(set) != digest);
    }

    /// The one before is valid until activation plus grace, the new one from activation on, at every second.
    function testFuzz_14_accepts__acrossARotation__atLeastOneAlways(uint32 lead, uint32 grace, uint32 moment) public {
        _rotate(_input());
        bytes32 first = service.configuration().digest;
        IConfigRotation.ConfigurationInput memory input = _input();
        input.activeFrom = uint40(_bound(lead, _now(), _now() + 7 days));
        input.grace = uint32(_bound(grace, 0, 7 days));
        _rotate(input);
        bytes32 second = service.configuration().digest;
        vm.warp(_bound(moment, _now(), _now() + 30 days));
        vm.assertEq(service.accepts(second), _now() >= input.activeFrom);
        vm.assertEq(service.accepts(first), _now() < input.activeFrom + uint256(input.grace));
        vm.assertTrue(_now() < input.activeFrom ? service.accepts(first) : service.accepts(second));
        vm.assertFalse(service.accepts(0));
    }

    function testFuzz_14_rotateAtOnce__waitingOrInGrace__onlyTheNewOneFromNowOn(
        uint32 lead,
        uint32 grace,
        uint32 moment
    ) public {
        _rotate(_input());
        bytes32 first = service.configuration().digest;
        IConfigRotation.ConfigurationInput memory input = _input();
        input.activeFrom = uint40(_bound(lead, _now(), _now() + 7 days));
        input.grace = uint32(_bound(grace, 0, 7 days));
        _rotate(input);
        bytes32 second = service.configuration().digest;
        vm.warp(_bound(moment, _now(), _now() + 14 days));
        vm.prank(rotator);
        vm.assertEq(service.rotateAtOnce(_input()), 3);
        bytes32 third = service.configuration().digest;
        vm.assertTrue(service.accepts(third));
        vm.assertFalse(service.accepts(first) || service.accepts(second));
        vm.warp(_now() + moment);
        vm.assertTrue(service.accepts(third));
        vm.assertFalse(service.accepts(first) || service.accepts(second));
    }

    /// What was promised for the grace holds: no ordinary rotation cuts it short.
    function testFuzz_14_rotate__graceRunning__refusedUntilItsEnd(uint32 grace, uint32 moment) public {
        _rotate(_input());
        IConfigRotation.ConfigurationInput memory input = _input();
        input.grace = uint32(_bound(grace, 1, 7 days));
        _rotate(input);
        uint256 until = _now() + input.grace;
        uint256 start = _now();
        vm.warp(_bound(moment, start, until - 1));
        vm.expectRevert(abi.encodeWithSelector(IConfigRotation.GraceRunning.selector, until));
        _rotate(_input());
        vm.warp(until);
        vm.assertEq(_rotate(_input()), 3);
    }

    /// The first one has nothing before it, so that its grace binds nobody.
    function testFuzz_14_rotate__firstOneWithGrace__replacedFreely(uint32 grace) public {
        IConfigRotation.ConfigurationInput memory input = _input();
        input.grace = uint32(_bound(grace, 0, 7 days));
        _rotate(input);
        vm.assertEq(_rotate(_input()), 2);
    }

    function testFuzz_13_rotate__oneWaits__replacedInItsPlaceAndNotBefore(uint32 lead, uint32 earlier) public {
        _rotate(_input());
        IConfigRotation.Anchor memory first = service.configuration();
        IConfigRotation.ConfigurationInput memory input = _input();
        input.activeFrom = uint40(_bound(lead, _now() + 1, _now() + 7 days));
        uint40 waiting = input.activeFrom;
        vm.roll(block.number + 1);
        _rotate(input);
        input.activeFrom = uint40(_bound(earlier, 1, waiting - 1));
        vm.expectRevert(
            abi.encodeWithSelector(IConfigRotation.BadActivation.selector, input.activeFrom, waiting, _now() + 7 days)
        );
        _rotate(input);
        input.activeFrom = 0;
        _rotate(input);
        IConfigRotation.Anchor memory third = service.configuration();
        vm.assertTrue(third.version == 3 && third.activeFrom == waiting);
        vm.assertTrue(third.previousVersion == 1 && third.previousDigest == first.digest);
        vm.assertEq(third.previousBlock, first.newestBlock);
    }

    function testFuzz_13_rotate__pastOrTooFar__refused(uint40 activeFrom) public {
        vm.assume(activeFrom != 0 && (activeFrom < _now() || activeFrom > _now() + 7 days));
        IConfigRotation.ConfigurationInput memory input = _input();
        input.activeFrom = activeFrom;
        bytes memory why =
            abi.encodeWithSelector(IConfigRotation.BadActivation.selector, activeFrom, _now(), _now() + 7 days);
        vm.expectRevert(why);
        _rotate(input);
    }

    function testFuzz_14_rotateAtOnce__withTimeOrGrace__refused(uint40 activeFrom, uint32 grace) public {
        vm.assume(activeFrom != 0 && grace != 0);
        IConfigRotation.ConfigurationInput memory input = _input();
        input.activeFrom = activeFrom;
        vm.expectRevert(abi.encodeWithSelector(IConfigRotation.BadActivation.selector, activeFrom, _now(), _now()));
        vm.prank(rotator);
        service.rotateAtOnce(input);
        (input.activeFrom, input.grace) = (0, grace);
        vm.expectRevert(abi.encodeWithSelector(IConfigRotation.BadGrace.selector, grace, 0));
        vm.prank(rotator);
        service.rotateAtOnce(input);
    }

    function testFuzz_12_rotate__byAStranger__refused(address caller) public {
        vm.assume(caller != serviceOwner && caller != rotator && caller != address(vm));
        bytes memory why = abi.encodeWithSelector(IConfigRotation.NotRotator.selector, caller);
        vm.expectRevert(why);
        vm.prank(caller);
        service.rotate(_input());
        vm.expectRevert(why);
        vm.prank(caller);
        service.rotateAtOnce(_input());
    }

    function testFuzz_12_setRotator__another__theFormerMayNot(address next) public {
        vm.assume(next != rotator && next != address(vm) && next != serviceOwner);
        vm.assertEq(service.rotator(), rotator);
        vm.expectEmit(address(service));
        emit IConfigRotation.RotatorChanged(rotator, next);
        vm.prank(serviceOwner);
        service.setRotator(next);
        vm.expectRevert(abi.encodeWithSelector(IConfigRotation.NotRotator.selector, rotator));
        vm.prank(rotator);
        service.rotate(_input());
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        vm.prank(serviceOwner);
        service.setRotator(next);
    }

    /* BOUNDS */

    function testFuzz_12_rotate__workOutOfBounds__refused(uint48 least, uint48 most, uint48 work) public {
        least = uint48(_bound(least, 1, 1000e9));
        most = uint48(_bound(most, least, 1000e9));
        vm.assume(least != 1 || most != 1000e9);
        vm.prank(serviceOwner);
        service.setPowBounds(least, most);
        (uint256 least_, uint256 most_) = service.powBounds();
        vm.assertTrue(least_ == least && most_ == most);
        IConfigRotation.ConfigurationInput memory input = _input();
        input.minPow = work;
        if (work < least || work > most) {
            vm.expectRevert(abi.encodeWithSelector(IConfigRotation.BadMinPow.selector, work, least, most));
        }
        vm.prank(rotator);
        service.rotate(input);
    }

    function testFuzz_34_setPowBounds__bad__refused(uint48 least, uint48 most) public {
        bytes memory why;
        if (least == 0 || least > most) {
            why = abi.encodeWithSelector(IConfigRotation.BadMinPow.selector, least, 1, most);
        } else if (most > 1000e9) {
            why = abi.encodeWithSelector(IConfigRotation.BadMinPow.selector, most, least, 1000e9);
        } else {
            vm.prank(serviceOwner);
            if (least != 1 || most != 1000e9) service.setPowBounds(least, most);
            why = abi.encodeWithSelector(Unchanged.selector);
        }
        vm.expectRevert(why);
        vm.prank(serviceOwner);
        service.setPowBounds(least, most);
    }

    function test_34_setPowBounds__eachOfTheTwo__changes() public {
        vm.startPrank(serviceOwner);
        vm.expectRevert(abi.encodeWithSelector(IConfigRotation.BadMinPow.selector, 1000e9 + 1, 1, 1000e9));
        service.setPowBounds(1, 1000e9 + 1);
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        service.setPowBounds(1, 1000e9);
        service.setPowBounds(1, 5);
        service.setPowBounds(2, 5);
        service.setPowBounds(2, 6);
        vm.stopPrank();
    }

    function testFuzz_34_rotate__graceOrSizesOutOfBounds__refused(uint32 grace, uint32 ttl, uint32 size) public {
        IConfigRotation.ConfigurationInput memory input = _input();
        (input.grace, input.maxTtl, input.maxSize) = (grace, ttl, size);
        bytes memory why;
        if (grace > 7 days) {
            why = abi.encodeWithSelector(IConfigRotation.BadGrace.selector, grace, 7 days);
        } else if (ttl < 1 || ttl > 1 days) {
            why = abi.encodeWithSelector(IConfigRotation.BadMaxTtl.selector, ttl, 1, 1 days);
        } else if (size < 8192 || size > 10 * 1024 * 1024) {
            why = abi.encodeWithSelector(IConfigRotation.BadMaxSize.selector, size, 8192, 10 * 1024 * 1024);
        }
        if (why.length != 0) vm.expectRevert(why);
        _rotate(input);
    }

    function test_34_rotate__eachBound__named() public {
        IConfigRotation.ConfigurationInput memory input = _input();
        input.grace = 7 days + 1;
        _refused(input, abi.encodeWithSelector(IConfigRotation.BadGrace.selector, 7 days + 1, 7 days));
        input = _input();
        input.maxTtl = 0;
        _refused(input, abi.encodeWithSelector(IConfigRotation.BadMaxTtl.selector, 0, 1, 1 days));
        input.maxTtl = 1 days + 1;
        _refused(input, abi.encodeWithSelector(IConfigRotation.BadMaxTtl.selector, 1 days + 1, 1, 1 days));
        input = _input();
        input.maxSize = 8191;
        _refused(input, abi.encodeWithSelector(IConfigRotation.BadMaxSize.selector, 8191, 8192, 10_485_760));
        input.maxSize = 10_485_761;
        _refused(input, abi.encodeWithSelector(IConfigRotation.BadMaxSize.selector, 10_485_761, 8192, 10_485_760));
        input = _input();
        input.oracle = address(0);
        _refused(input, abi.encodeWithSelector(ZeroAddress.selector));
        input = _input();
        input.epochKeyCommitment = 0;
        _refused(input, abi.encodeWithSelector(IConfigRotation.MissingCommitment.selector));
        input = _input();
        input.oracleCardDigest = 0;
        _refused(input, abi.encodeWithSelector(IConfigRotation.MissingCommitment.selector));
    }

    function testFuzz_34_rotate__gatewayAndCard__togetherOrNeither(bool gateway, bool card) public {
        IConfigRotation.ConfigurationInput memory input = _input();
        if (!gateway) input.gateway = address(0);
        if (!card) input.gatewayCardDigest = 0;
        if (gateway != card) {
            vm.expectRevert(
                abi.encodeWithSelector(
                    IConfigRotation.GatewayWithoutCard.selector, input.gateway, input.gatewayCardDigest
                )
            );
        }
        _rotate(input);
    }

    function testFuzz_16_rotate__anyNumber__workersUntouched(uint8 count) public {
        address id = _enrol(1, owner, SENSOR);
        uint256 word = _wordOf(id);
        for (uint256 i = 0; i < _bound(count, 1, 20); ++i) {
            vm.assertEq(_rotate(_input()), i + 1);
        }
        vm.assertEq(_wordOf(id), word);
    }

    /* HELPERS */

    function _refused(IConfigRotation.ConfigurationInput memory input, bytes memory why) private {
        vm.expectRevert(why);
        _rotate(input);
    }

    function _fit(IConfigRotation.ConfigurationInput memory input) private view {
        if (input.activeFrom != 0) input.activeFrom = uint40(_bound(input.activeFrom, _now(), _now() + 7 days));
        input.grace = uint32(_bound(input.grace, 0, 7 days));
        input.minPow = uint48(_bound(input.minPow, 1, 1000e9));
        input.maxTtl = uint32(_bound(input.maxTtl, 1, 1 days));
        input.maxSize = uint32(_bound(input.maxSize, 8192, 10_485_760));
        if (input.oracle == address(0)) input.oracle = address(1);
        if (input.epochKeyCommitment == 0) input.epochKeyCommitment = "commitment";
        if (input.oracleCardDigest == 0) input.oracleCardDigest = "card";
        if (input.gateway == address(0) || input.gatewayCardDigest == 0) {
            (input.gateway, input.gatewayCardDigest) = (address(0), 0);
        }
    }

    function _expected(IConfigRotation.ConfigurationInput memory input, uint32 version, uint256 from, uint48 previous)
        private
        pure
        returns (IConfigRotation.Configuration memory)
    {
        return IConfigRotation.Configuration({
            version: version,
            activeFrom: uint40(from),
            grace: input.grace,
            minPow: input.minPow,
            maxTtl: input.maxTtl,
            maxSize: input.maxSize,
            oracle: input.oracle,
            gateway: input.gateway,
            epochKeyCommitment: input.epochKeyCommitment,
            oracleCardDigest: input.oracleCardDigest,
            gatewayCardDigest: input.gatewayCardDigest,
            previousBlock: previous
        });
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelReleases} from "../../../contracts/interfaces/IModelReleases.sol";
import {APPROVED, COMPLETED, PROPOSED, REVOKED, ROLLING} from "../../../contracts/releases/ReleaseWords.sol";
import {Channel} from "../Channel.sol";
import {vm} from "../Vm.sol";
import {ReleasesHandler} from "./ReleasesHandler.sol";

/// @dev What holds of a line of releases after every call of everybody's; the handler knows the events alone.
contract ReleasesInvariants is Channel {
    uint256 private constant MODELS = 6;

    ReleasesHandler private _handler;

    function setUp() public {
        _deployReleases();
        _handler = new ReleasesHandler(service, releases, gateway);
    }

    /// @dev Forge calls what this names, and nothing else.
    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    function invariant_05_everyStepIsItsRoles() public view {
        _assertKept(5);
    }

    function invariant_21_sequencesAreOneByOneAndTermsForLife() public view {
        _assertKept(21);
        for (uint256 model = 0; model < MODELS; ++model) {
            IModelReleases.Release memory release = _release(model);
            vm.assertTrue(release.sequence <= releases.head(CHANNEL).sequence);
            if (release.sequence == 0) continue;
            vm.assertEq(bytes32(release.digest), bytes32(bytes24(keccak256(abi.encode(_handler.terms(model))))));
        }
    }

    /// Nobody takes up what is not the newest, not open to its wave, or revoked.
    function invariant_22_onlyTheNewestOpenAndUnrevokedIsTakenUp() public view {
        IModelReleases.Head memory head = releases.head(CHANNEL);
        for (uint256 model = 0; model < MODELS; ++model) {
            IModelReleases.Terms memory terms = _handler.terms(model);
            IModelReleases.Release memory release = _release(model);
            for (uint256 device = 0; device < 4; ++device) {
                IModelReleases.WaveProof memory proof = _proof(terms.manifestHash, device);
                bool rolls = head.state == ROLLING && _waveOf(device) <= head.wave && _now() <= head.expiresAt;
                bool open = (head.state == COMPLETED || rolls) && release.sequence == head.sequence;
                vm.assertEq(releases.admits(CHANNEL, terms, proof), open && release.sequence != 0);
                vm.assertTrue(!open || (!release.revoked && release.sequence >= head.floor));
            }
        }
    }

    function invariant_23_statesKeepTheirOrder() public view {
        _assertKept(23);
        IModelReleases.Head memory head = releases.head(CHANNEL);
        vm.assertTrue(head.state <= REVOKED && head.wave <= head.waveCount);
        if (head.state == PROPOSED || head.state == APPROVED) vm.assertEq(head.wave, 0);
        if (head.state == ROLLING) vm.assertTrue(head.wave != 0);
    }

    function invariant_24_revokedNeverComesBack() public view {
        _assertKept(24);
        IModelReleases.Head memory head = releases.head(CHANNEL);
        for (uint256 model = 0; model < MODELS; ++model) {
            IModelReleases.Release memory release = _release(model);
            vm.assertEq(release.revoked, _handler.told(model).revoked);
            if (release.revoked && release.sequence != 0) vm.assertTrue(release.sequence < head.floor);
        }
        vm.assertTrue(head.completed <= head.sequence);
        vm.assertTrue(head.floor <= head.sequence || (head.state == REVOKED && head.floor == head.sequence + 1));
    }

    function invariant_33_eventsTellTheWholeLine() public view {
        _assertKept(33);
        vm.assertEq(keccak256(abi.encode(releases.head(CHANNEL))), keccak256(abi.encode(_handler.head())));
        for (uint256 model = 0; model < MODELS; ++model) {
            vm.assertEq(keccak256(abi.encode(_release(model))), keccak256(abi.encode(_handler.told(model))));
        }
    }

    function invariant_34_everyRefusalIsDeclared() public view {
        _assertKept(34);
    }

    function _release(uint256 model) private view returns (IModelReleases.Release memory) {
        return releases.release(CHANNEL, keccak256(abi.encode("model", model)));
    }

    function _assertKept(uint256 number) private view {
        vm.assertEq(_handler.breaches(number), 0);
    }
}

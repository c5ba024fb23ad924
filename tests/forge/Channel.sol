// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelReleases} from "../../contracts/interfaces/IModelReleases.sol";
import {ModelReleases} from "../../contracts/releases/ModelReleases.sol";
import {Fleet} from "./Fleet.sol";
import {vm} from "./Vm.sol";

/// @dev A line of releases beside a service, its people, and a fleet of four devices in a Merkle tree that is built here
/// once more, from the documentation.
abstract contract Channel is Fleet {
    bytes32 internal constant CHANNEL = "thermostats";
    bytes32 internal constant MODEL = "model 1";
    bytes32 internal constant OTHER_MODEL = "model 2";
    uint24 internal constant SOAK = 1 hours;
    uint8 internal constant WAVES = 2;

    address internal immutable releaseOwner = vm.addr(0xE0);
    address internal immutable approver = vm.addr(0xE1);
    address internal immutable publisher = vm.addr(0xE2);

    ModelReleases internal releases;
    address internal gateway;

    function _deployReleases() internal {
        _deployService();
        gateway = _enrol(0x6A7E, owner, GATEWAY);
        releases = new ModelReleases(releaseOwner, service, approver);
        vm.prank(releaseOwner);
        releases.setPublisher(publisher, gateway);
    }

    function _terms(bytes32 manifestHash) internal view returns (IModelReleases.Terms memory) {
        return IModelReleases.Terms({
            manifestHash: manifestHash,
            groupRoot: _root(manifestHash),
            gateHash: "gate",
            notBefore: uint32(_now()),
            expiresAt: uint32(_now() + 7 days),
            soak: SOAK,
            waveCount: WAVES
        });
    }

    /* STEPS */

    function _propose(bytes32 manifestHash) internal returns (uint32) {
        IModelReleases.Terms memory terms = _terms(manifestHash);
        vm.prank(publisher);
        return releases.propose(CHANNEL, terms);
    }

    function _approve(uint32 sequence) internal {
        _approve(sequence, MODEL);
    }

    function _approve(uint32 sequence, bytes32 manifestHash) internal {
        vm.prank(approver);
        releases.approve(CHANNEL, sequence, manifestHash);
    }

    function _openWave(uint32 sequence) internal {
        vm.prank(publisher);
        releases.openWave(CHANNEL, sequence);
    }

    function _finalise(bytes32 manifestHash, uint32 floor) internal {
        vm.prank(publisher);
        releases.finalise(CHANNEL, manifestHash, floor, IModelReleases.Report("reports", 1, 2, 3));
    }

    function _revoke(bytes32 manifestHash) internal {
        vm.prank(approver);
        releases.revoke(CHANNEL, manifestHash);
    }

    function _rollBack(bytes32 manifestHash) internal returns (uint32) {
        vm.prank(releaseOwner);
        return releases.rollBack(CHANNEL, manifestHash);
    }

    function _rolling(bytes32 manifestHash) internal returns (uint32 sequence) {
        sequence = _propose(manifestHash);
        _approve(sequence, manifestHash);
        _openWave(sequence);
    }

    function _completed(bytes32 manifestHash) internal returns (uint32 sequence) {
        sequence = _rolling(manifestHash);
        vm.warp(_now() + SOAK);
        _openWave(sequence);
        vm.warp(_now() + SOAK);
        _finalise(manifestHash, 0);
    }

    /* WAVES */

    /// @dev Four devices: 0 and 1 in the first wave, 2 and 3 in the second.
    function _proof(bytes32 manifestHash, uint256 device)
        internal
        pure
        returns (IModelReleases.WaveProof memory proof)
    {
        proof.pseudonym = _pseudonym(device);
        proof.wave = _waveOf(device);
        proof.manifestHash = manifestHash;
        proof.salt = _salt(device);
        proof.index = device;
        proof.siblings = new bytes32[](2);
        proof.siblings[0] = _leaf(manifestHash, device ^ 1);
        proof.siblings[1] = _pair(manifestHash, 1 - device / 2);
    }

    function _root(bytes32 manifestHash) internal pure returns (bytes32) {
        return keccak256(bytes.concat(hex"01", _pair(manifestHash, 0), _pair(manifestHash, 1)));
    }

    function _pair(bytes32 manifestHash, uint256 half) internal pure returns (bytes32) {
        return keccak256(bytes.concat(hex"01", _leaf(manifestHash, 2 * half), _leaf(manifestHash, 2 * half + 1)));
    }

    function _leaf(bytes32 manifestHash, uint256 device) internal pure returns (bytes32) {
        return
            keccak256(bytes.concat(hex"00", _pseudonym(device), bytes1(_waveOf(device)), manifestHash, _salt(device)));
    }

    function _pseudonym(uint256 device) private pure returns (bytes32) {
        return keccak256(abi.encode("pseudonym", device));
    }

    function _salt(uint256 device) private pure returns (bytes32) {
        return keccak256(abi.encode("salt", device));
    }

    function _waveOf(uint256 device) internal pure returns (uint8) {
        return device < 2 ? 1 : 2;
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelReleases} from "../interfaces/IModelReleases.sol";

bytes1 constant LEAF = 0x00;
bytes1 constant NODE = 0x01;

/// @dev The root a proof leads to. Leaves and inner nodes are hashed under different first bytes, so that neither can
/// pass for the other (RFC 6962); an index beyond the tree leads nowhere.
function waveRoot(IModelReleases.WaveProof calldata proof) pure returns (bytes32 root) {
    root = keccak256(abi.encodePacked(LEAF, proof.pseudonym, proof.wave, proof.manifestHash, proof.salt));
    uint256 index = proof.index;
    bytes32[] calldata siblings = proof.siblings;
    for (uint256 i = 0; i < siblings.length; ++i) {
        (bytes32 left, bytes32 right) = index & 1 == 0 ? (root, siblings[i]) : (siblings[i], root);
        root = keccak256(abi.encodePacked(NODE, left, right));
        index >>= 1;
    }
    if (index != 0) root = 0;
}

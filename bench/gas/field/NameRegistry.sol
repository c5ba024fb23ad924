// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @dev A registry in the manner of name services: a device is a label below its owner's node, with a resolver that
/// knows the rest and a time to live.
contract FieldNames {
    struct Entry {
        address owner;
        address resolver;
        uint64 ttl;
    }

    mapping(bytes32 node => Entry) private _entries;

    event NewOwner(bytes32 indexed node, bytes32 indexed label, address owner);
    event NewResolver(bytes32 indexed node, address resolver);
    event NewTtl(bytes32 indexed node, uint64 ttl);

    error NotNodeOwner(bytes32 node);

    constructor(bytes32 root, address owner) {
        _entries[root].owner = owner;
    }

    function setSubnodeRecord(bytes32 node, bytes32 label, address owner, address resolver, uint64 ttl) external {
        require(_entries[node].owner == msg.sender, NotNodeOwner(node));
        bytes32 below = keccak256(abi.encode(node, label));
        Entry storage entry = _entries[below];
        entry.owner = owner;
        emit NewOwner(node, label, owner);
        if (resolver != entry.resolver) {
            entry.resolver = resolver;
            emit NewResolver(below, resolver);
        }
        if (ttl != entry.ttl) {
            entry.ttl = ttl;
            emit NewTtl(below, ttl);
        }
    }

    function setResolver(bytes32 node, address resolver) external {
        require(_entries[node].owner == msg.sender, NotNodeOwner(node));
        _entries[node].resolver = resolver;
        emit NewResolver(node, resolver);
    }
}

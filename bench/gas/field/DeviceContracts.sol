// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @dev One device, as a contract of its own.
contract FieldDevice {
    address public owner;
    bool public active;
    bytes32 public x;
    bytes32 public y;

    event ActiveChanged(bool active);
    event KeyChanged(bytes32 x, bytes32 y);

    error NotOwner(address caller);

    constructor(address owner_, bytes32 x_, bytes32 y_) {
        (owner, active, x, y) = (owner_, true, x_, y_);
    }

    function setActive(bool active_) external {
        require(msg.sender == owner, NotOwner(msg.sender));
        active = active_;
        emit ActiveChanged(active_);
    }

    function setKey(bytes32 x_, bytes32 y_) external {
        require(msg.sender == owner, NotOwner(msg.sender));
        (x, y) = (x_, y_);
        emit KeyChanged(x_, y_);
    }
}

/// @dev A registry that deploys a contract for each device and keeps where it is.
contract FieldDevices {
    mapping(address owner => FieldDevice[]) public devicesOf;

    event Created(address indexed owner, FieldDevice device);

    function create(bytes32 x, bytes32 y) external {
        FieldDevice device = new FieldDevice(msg.sender, x, y);
        devicesOf[msg.sender].push(device);
        emit Created(msg.sender, device);
    }
}

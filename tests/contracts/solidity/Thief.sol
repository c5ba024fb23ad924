// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

interface IOwnable {
    function acceptOwnership() external;
    function withdraw(address payable to) external;
}

/// @title A service owner that withdraws again from within its withdrawal
contract Thief {
    IOwnable private immutable _SERVICE;

    constructor(IOwnable service) {
        _SERVICE = service;
    }

    receive() external payable {
        _SERVICE.withdraw(payable(address(this)));
    }

    function acceptOwnership() external {
        _SERVICE.acceptOwnership();
    }

    function withdraw(address payable to) external {
        _SERVICE.withdraw(to);
    }
}

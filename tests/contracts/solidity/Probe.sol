// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Reads a view within a transaction, so that its time is exact
contract Probe {
    event Answered(bytes answer);

    error Unanswered();

    function ask(address target, bytes calldata question) external {
        (bool answered, bytes memory answer) = target.staticcall(question);
        require(answered, Unanswered());
        emit Answered(answer);
    }
}

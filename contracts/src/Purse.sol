// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IPurse} from "./interfaces/IPurse.sol";

/// @title Money that comes in for a purpose and is pulled out by whom it is owed to: native or any ERC-20.
/// @notice A token's troubles stay its own: what is owed in one token is never paid in another, and nobody's refusal
/// to receive holds up anybody else.
abstract contract Purse is IPurse, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @dev Stands for the native token.
    address internal constant NATIVE = address(0);

    mapping(address token => mapping(address account => uint256)) private _credit;

    /// @inheritdoc IPurse
    function credit(address account) external view returns (uint256) {
        return _credit[NATIVE][account];
    }

    /// @inheritdoc IPurse
    function creditIn(address token, address account) external view returns (uint256) {
        return _credit[token][account];
    }

    /// @inheritdoc IPurse
    function withdraw() external {
        withdrawIn(NATIVE);
    }

    /// @inheritdoc IPurse
    /// @dev The debt is gone before the money leaves: calling back finds nothing.
    function withdrawIn(address token) public nonReentrant {
        uint256 amount = _credit[token][msg.sender];
        if (amount == 0) revert NothingOwed();
        _credit[token][msg.sender] = 0;
        if (token != NATIVE) return IERC20(token).safeTransfer(msg.sender, amount);
        (bool sent,) = msg.sender.call{value: amount}("");
        if (!sent) revert TransferFailed();
    }

    /// @dev Takes exactly `amount` from the sender or reverts. A token that keeps a fee for itself leaves less than that
    /// here: it is refused, for what isn't here can't be owed. Callers are `nonReentrant`, or a token that calls back
    /// could have one transfer counted twice.
    function _take(address token, uint256 amount) internal {
        if (token == NATIVE) {
            if (msg.value != amount) revert WrongValue(amount);
            return;
        }
        if (msg.value != 0) revert WrongValue(0);
        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        if (IERC20(token).balanceOf(address(this)) != before + amount) revert WrongValue(amount);
    }

    function _owe(address token, address account, uint256 amount) internal {
        _credit[token][account] += amount;
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What a contract owes, and how it is taken out. The zero address stands for the native token.
interface IPurse {
    /// Not what is due came in.
    error WrongValue(uint256 due);
    error NothingOwed();
    error TransferFailed();

    /// @notice Sends the sender what it is owed in the native token.
    function withdraw() external;

    /// @notice Sends the sender what it is owed in `token`.
    function withdrawIn(address token) external;

    /// @return What `account` is owed in the native token.
    function credit(address account) external view returns (uint256);

    /// @return What `account` is owed in `token`.
    function creditIn(address token, address account) external view returns (uint256);
}

"""The customary scheme of IP addresses: address from cabinet, frame and board."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address


class StandardIPs:
    """Works out IP addresses from physical positions.

    Every parameter is an IPv4 address or the distance between two, written as an
    IPv4 address. `Machine.with_standard_ips` describes them.

    :raises TypeError: if a parameter is no string, or no IPv4 address
    :raises ValueError: likewise
    """

    def __init__(
        self,
        *,
        base_ip: str,
        cabinet_stride: str,
        frame_stride: str,
        board_stride: str,
        bmp_offset: str,
        spinnaker_offset: str,
    ) -> None:
        self._base = _number("base_ip", base_ip)
        self._cabinet_stride = _number("cabinet_stride", cabinet_stride)
        self._frame_stride = _number("frame_stride", frame_stride)
        self._board_stride = _number("board_stride", board_stride)
        self._bmp_offset = _number("bmp_offset", bmp_offset)
        self._spinnaker_offset = _number("spinnaker_offset", spinnaker_offset)

    def bmp(self, cabinet: int, frame: int) -> str:
        """Give the address of a frame's BMP, which is its board 0's.

        :raises ValueError: if that is beyond the last IPv4 address
        """
        number = self._start_of_board(cabinet, frame, 0) + self._bmp_offset
        return _address(number, f"the BMP of cabinet {cabinet}, frame {frame}")

    def spinnaker(self, cabinet: int, frame: int, board: int) -> str:
        """Give the address of a board's Ethernet chip.

        :raises ValueError: if that is beyond the last IPv4 address
        """
        number = self._start_of_board(cabinet, frame, board) + self._spinnaker_offset
        return _address(number, f"cabinet {cabinet}, frame {frame}, board {board}")

    def _start_of_board(self, cabinet: int, frame: int, board: int) -> int:
        return (
            self._base
            + cabinet * self._cabinet_stride
            + frame * self._frame_stride
            + board * self._board_stride
        )


def _number(parameter: str, address: str) -> int:
    """Read an IPv4 address as a number."""
    if not isinstance(address, str):
        raise TypeError(f"{parameter} should be a str, not {address!r}")
    try:
        return int(IPv4Address(address))
    except AddressValueError:
        raise ValueError(f"{parameter}: {address!r} is not an IPv4 address") from None


def _address(number: int, owner: str) -> str:
    """Write a number as an IPv4 address, that of `owner`."""
    try:
        return str(IPv4Address(number))
    except AddressValueError:
        raise ValueError(
            f"the IP address of {owner} is beyond 255.255.255.255"
        ) from None

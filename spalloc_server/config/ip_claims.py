"""Which BMP or chip each IP address of a config file is for; none is for two."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import AddressValueError, IPv4Address
from typing import NamedTuple

from spalloc_server.coordinates import Board


class IPClaim(NamedTuple):
    """One use of an IP address, by the BMP of a frame or the chip of a board."""

    ip: str
    is_bmp: bool
    place: tuple[int, ...]
    of_machine: str
    """What is put after the name of the place."""

    def __str__(self) -> str:
        name = bmp_of if self.is_bmp else chip_of
        return f"{name(self.place)}{self.of_machine}"


def ip_claims(
    bmp_ips: Mapping[tuple[int, int], str],
    spinnaker_ips: Mapping[Board, str],
    of_machine: str = "",
) -> Iterator[IPClaim]:
    """Enumerate the uses of IP addresses, with a suffix for the names of places."""
    for frame in sorted(bmp_ips):
        yield IPClaim(bmp_ips[frame], True, frame, of_machine)
    for board in sorted(spinnaker_ips):
        yield IPClaim(spinnaker_ips[board], False, board, of_machine)


def check_ips_distinct(claims: Iterable[IPClaim]) -> None:
    """Make sure that no IP address is used twice."""
    first_claims: dict[str, IPClaim] = {}
    for claim in claims:
        first = first_claims.setdefault(claim.ip, claim)
        # On loopback there is no board, only a simulator of BMPs, so there the address
        # of a chip is a dummy.
        if first is not claim and not (
            first.is_bmp != claim.is_bmp and _is_loopback(claim.ip)
        ):
            raise ValueError(f"IP {claim.ip!r} is given to both {first} and {claim}")


def bmp_of(frame: tuple[int, ...]) -> str:
    """How messages call a BMP, by its cabinet and frame."""
    return f"the BMP of cabinet {frame[0]}, frame {frame[1]}"


def chip_of(board: tuple[int, ...]) -> str:
    """How messages call what has the IP of a board."""
    return f"the Ethernet chip of board {board}"


def _is_loopback(host: str) -> bool:
    try:
        return IPv4Address(host).is_loopback
    except AddressValueError:
        return host == "localhost"

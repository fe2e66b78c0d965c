"""From which networks clients may connect."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def checked_networks(networks: object) -> list[str] | None:
    """Make sure that networks are a list of CIDR strings, or None.

    :raises TypeError: naming the one that is no network
    :raises ValueError: likewise
    """
    if networks is None:
        return None
    # A string would be iterable, too, and an integer an address.
    if isinstance(networks, str) or not isinstance(networks, Iterable):
        raise TypeError(
            f"allowed_networks should be a list of networks, not {networks!r}"
        )
    checked = list(networks)
    for network in checked:
        if not isinstance(network, str):
            raise TypeError(
                "allowed_networks should be a list of str, such as '10.2.0.0/16', "
                f"not of {network!r}"
            )
        try:
            ip_network(network)
        except ValueError as error:
            raise ValueError(f"allowed_networks: {error}") from None
    return checked


def plain_address(host: str) -> Address | None:
    """An IP address, of an IPv4 client in its IPv4 form; None for anything else."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


class AllowedNetworks:
    """The networks from which clients may connect; None for all there are."""

    def __init__(self, networks: Iterable[str] | None = None) -> None:
        """Take networks that `checked_networks` has accepted."""
        self._networks: list[Network] | None = None
        if networks is not None:
            self._networks = [_plain_network(network) for network in networks]

    def __contains__(self, host: object) -> bool:
        if self._networks is None:
            return True
        address = plain_address(str(host))
        return address is not None and any(address in n for n in self._networks)


def _plain_network(text: str) -> Network:
    """A network; one of IPv4-mapped addresses in its IPv4 form."""
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network

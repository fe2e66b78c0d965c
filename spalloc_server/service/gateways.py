"""Connections that speak for others: those of a gateway, which knows a secret.

A gateway proves that it knows the secret without sending it: it is given a challenge,
and answers with the HMAC of it. From then on it may say with each command on whose
behalf that is.
"""

from __future__ import annotations

import ipaddress
import os
import reprlib
from typing import Any, Final
from weakref import WeakKeyDictionary

CHALLENGE_BYTES: Final = 32


def proof_of(secret: bytes, challenge: str) -> str:
    """What proves that somebody who was given a challenge knows a secret."""
    # They bring OpenSSL, a tenth of the memory of a server that has no gateways.
    import hashlib
    import hmac

    return hmac.new(secret, challenge.encode(), hashlib.sha256).hexdigest()


class Gateways:
    """Knows which clients are gateways. For the server's thread."""

    def __init__(self, secret: bytes | None = None) -> None:
        """Begin without any.

        :param secret: what gateways know; None to have none
        """
        self._secret = secret
        self._challenges: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._proven: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()

    def challenge(self, client: Any) -> str:
        """Give a client something new to prove itself by.

        :raises ValueError: if there are to be no gateways
        """
        if self._secret is None:
            raise ValueError("this server was started without --gateway-secret")
        self._challenges[client] = os.urandom(CHALLENGE_BYTES).hex()
        return self._challenges[client]

    def prove(self, client: Any, proof: Any) -> None:
        """Take a client for a gateway, if its proof is right. It has one try.

        :raises ValueError: if it is wrong, or there was no challenge
        """
        import hmac  # see `proof_of`

        challenge = self._challenges.pop(client, None)
        if challenge is None or self._secret is None:
            raise ValueError("there is no challenge to prove anything by")
        if not isinstance(proof, str) or not hmac.compare_digest(
            proof.encode("utf-8", "replace"), proof_of(self._secret, challenge).encode()
        ):
            raise ValueError("this is not the proof that was asked for")
        self._proven[client] = True

    def host_for(self, client: Any, host: Any) -> str:
        """The host that a client speaks for.

        :param host: its IP address, as the client says
        :raises ValueError: if that is no address, or the client is no gateway
        :raises TypeError: if it is no text
        """
        if client not in self._proven:
            raise ValueError("on_behalf_of is for gateways that have proved themselves")
        if not isinstance(host, str):
            raise TypeError(f"on_behalf_of must be a string, not {reprlib.repr(host)}")
        try:
            return str(ipaddress.ip_address(host))
        except ValueError:
            raise ValueError(
                f"on_behalf_of must be an IP address, not {reprlib.repr(host)}"
            ) from None

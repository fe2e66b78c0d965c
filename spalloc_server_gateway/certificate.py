"""The certificate of the gateway, and its private key."""

from __future__ import annotations

import ssl


class CertificateError(Exception):
    """The certificate cannot be used; the message says why, in one line."""


class Certificate:
    """A certificate in files, which may be replaced."""

    def __init__(self, cert: str, key: str) -> None:
        """Read it.

        :param cert: the file with the certificate and those between, in PEM
        :param key: the file with its private key, in PEM
        :raises CertificateError: if it cannot be used
        """
        self._files = cert, key
        self.context = _make_context(cert, key)
        """For connections that are taken in."""

    def read(self) -> None:
        """Read it again.

        :raises CertificateError: if it cannot be used; the one before stays
        """
        # Half of it must not be taken.
        _make_context(*self._files)
        _load(self.context, *self._files)


def _make_context(cert: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load(context, cert, key)
    return context


def _load(context: ssl.SSLContext, cert: str, key: str) -> None:
    for name in (cert, key):
        try:
            with open(name, "rb"):
                pass
        except OSError as e:
            raise CertificateError(f"{name}: {e.strerror}") from None
    try:
        # No password is asked for: nobody may be there.
        context.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as e:
        reason = getattr(e, "reason", None) or str(e)
        raise CertificateError(f"cannot use {cert} with {key}: {reason}") from None

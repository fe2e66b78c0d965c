"""``--probe``: which BMPs answer."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from spalloc_server.hardware.transceiver import BMPError, BMPTransceiver

PROBES_AT_ONCE: Final = 64


def problems_of_bmps(hostnames: Sequence[str]) -> list[str | None]:
    """Ask BMPs for their versions.

    :param hostnames: one at least
    :return: what is wrong with each, None where it answers
    """
    with ThreadPoolExecutor(min(PROBES_AT_ONCE, len(hostnames))) as threads:
        return list(threads.map(_problem_of_bmp, hostnames))


def _problem_of_bmp(hostname: str) -> str | None:
    transceiver = BMPTransceiver(hostname)
    try:
        transceiver.version()
    except BMPError as e:
        return str(e)
    finally:
        transceiver.close()
    return None

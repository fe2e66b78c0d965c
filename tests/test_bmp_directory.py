"""Where BMPs are reached."""

from __future__ import annotations

from spalloc_server import bmp_directory
from spalloc_server.bmp_directory import BMPAddress


def test_a_bmp_is_reached_at_its_hostname_by_default() -> None:
    assert bmp_directory.lookup("bmp.example") == BMPAddress("bmp.example", 17893, 5.0)


def test_registered_address_is_used_until_forgotten() -> None:
    address = BMPAddress("127.0.0.1", 1234, 0.0)
    bmp_directory.register("bmp.example", address)
    try:
        assert bmp_directory.lookup("bmp.example") == address
        assert bmp_directory.lookup("other.example").host == "other.example"
    finally:
        bmp_directory.forget("bmp.example")
    assert bmp_directory.lookup("bmp.example").host == "bmp.example"


def test_forgetting_what_is_not_there_is_harmless() -> None:
    bmp_directory.forget("never-registered.example")

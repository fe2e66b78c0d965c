"""Where BMPs are reached."""

from __future__ import annotations

from spalloc_server.hardware import directory
from spalloc_server.hardware.directory import BMPAddress


def test_a_bmp_is_reached_at_its_hostname_by_default() -> None:
    assert directory.lookup("bmp.example") == BMPAddress("bmp.example", 17893, 5.0)


def test_registered_address_is_used_until_forgotten() -> None:
    address = BMPAddress("127.0.0.1", 1234, 0.0)
    directory.register("bmp.example", address)
    try:
        assert directory.lookup("bmp.example") == address
        assert directory.lookup("other.example").host == "other.example"
    finally:
        directory.forget("bmp.example")
    assert directory.lookup("bmp.example").host == "bmp.example"


def test_forgetting_what_is_not_there_is_harmless() -> None:
    directory.forget("never-registered.example")

"""The real server with other waits: ``-m tests.hardware_faults.quick_server JSON ...``.

The object may give ``settle``, the seconds that boards settle, and class attributes of
`AsyncBMPController` and `BMPTransceiver`. All else is as on the command line.
"""

import json
import sys

from spalloc_server.async_bmp_controller import AsyncBMPController
from spalloc_server.hardware import directory
from spalloc_server.hardware.directory import BMPAddress
from spalloc_server.hardware.transceiver import BMPTransceiver
from spalloc_server.server import main

if __name__ == "__main__":
    waits = json.loads(sys.argv[1])
    settle = waits.pop("settle", None)
    if settle is not None:
        directory.set_fallback(
            lambda hostname: BMPAddress(hostname, settle_seconds=settle)
        )
    for name, seconds in waits.items():
        for owner in (AsyncBMPController, BMPTransceiver):
            if hasattr(owner, name):
                setattr(owner, name, seconds)
    sys.exit(main(sys.argv[2:]))

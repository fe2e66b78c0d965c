"""The gateway, but it waits for less: ``python -m tests.gateway.impatient``."""

import sys

from spalloc_server_gateway.patience import Patience
from spalloc_server_gateway.run import main

PATIENCE = Patience(
    call=1.5,
    create=3.0,
    keepalive=0.5,
    change=3.0,
    suspend=2.0,
    body=0.5,
    failure=1.0,
    deaf=2.0,
)

if __name__ == "__main__":
    sys.exit(main(patience=PATIENCE))

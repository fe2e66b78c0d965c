"""The gateway, but it waits for less: ``python -m tests.gateway.impatient``.

The environment variable ``PATIENCE`` may say for how long, such as ``body=1 deaf=3``.
"""

import os
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
    answer=0.2,
    failure=1.0,
    deaf=2.0,
)

if __name__ == "__main__":
    wishes = dict(wish.split("=") for wish in os.environ.get("PATIENCE", "").split())
    changed = {name: float(seconds) for name, seconds in wishes.items()}
    sys.exit(main(patience=PATIENCE._replace(**changed)))

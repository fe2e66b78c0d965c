"""``python -m spalloc_server_gateway``."""

import sys

from spalloc_server_gateway.run import main

if __name__ == "__main__":
    sys.exit(main())

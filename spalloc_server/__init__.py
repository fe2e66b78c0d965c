"""The SpiNNaker partitioning server: shares SpiNNaker machines between jobs.

Importing the package has no side effects; the pieces are its modules, see the
internals guide in ``docs/``.
"""

# Released clients split this at "." into ints and accept 0.3.0 <= v < 2.0.0
# (clients up to 2.0.1), so it has to stay 1.x.y with plain digits.
__version__ = "1.0.0"

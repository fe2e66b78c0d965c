"""Faults of real hardware: the real command line, with BMPs that tests can break."""

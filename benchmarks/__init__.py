"""Measures this server against the reference release: ``python -m benchmarks``."""

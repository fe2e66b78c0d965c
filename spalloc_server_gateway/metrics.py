"""Metrics for Prometheus: how the gateway is doing. No names of users in them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from spalloc_server_gateway.context import Gateway

_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30)


Family: TypeAlias = type[CounterMetricFamily] | type[GaugeMetricFamily]
"""Of what only grows, and of what goes up and down."""


class Metrics:
    """Counts, and gives what is counted elsewhere. For one event loop."""

    def __init__(self, gateway: Gateway) -> None:
        """Begin from zero."""
        self.registry = registry = CollectorRegistry()
        self._elsewhere = _Elsewhere()
        self._requests = Counter(
            "spalloc_gateway_requests",
            "Requests that were answered",
            ["status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "spalloc_gateway_request_seconds",
            "How long answers took, waits for changes too",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._under_way = Gauge(
            "spalloc_gateway_requests_under_way",
            "Requests that are not answered yet",
            registry=registry,
        )
        registry.register(self._elsewhere)
        self.add_gauge(
            "server_up",
            "Is there a connection to the server?",
            lambda: gateway.link.is_up,
        )
        self.add_counter(
            "server_connections",
            "Connections to the server that were made",
            lambda: gateway.link.connections,
        )
        self.add_counter(
            "failed_logins", "Logins that failed", lambda: gateway.logins.failed
        )
        self.add_counter(
            "logins", "Logins that succeeded", lambda: gateway.logins.succeeded
        )
        self.add_counter(
            "late_keepalives",
            "Keepalives that came while the server was away, and were made up for",
            lambda: gateway.jobs.late_keepalives,
        )

    def add_gauge(self, name: str, text: str, function: Callable[[], float]) -> None:
        """Add what is known elsewhere, and goes up and down."""
        self._elsewhere.add(GaugeMetricFamily, name, text, function)

    def add_counter(self, name: str, text: str, function: Callable[[], float]) -> None:
        """Add what is counted elsewhere, and only grows."""
        self._elsewhere.add(CounterMetricFamily, name, text, function)

    @contextlib.contextmanager
    def request(self) -> Iterator[Callable[[int], None]]:
        """Around the answering of a request; gives what is to be told its status."""
        began = time.monotonic()
        self._under_way.inc()

        def done(status: int) -> None:
            self._requests.labels(str(status)).inc()

        try:
            yield done
        finally:
            self._under_way.dec()
            self._seconds.observe(time.monotonic() - began)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class _Elsewhere(Collector):
    """Asks for what is counted elsewhere, whenever somebody wants to know."""

    def __init__(self) -> None:
        self._sources: list[tuple[Family, str, str, Callable[[], float]]] = []

    def add(
        self, family: Family, name: str, text: str, function: Callable[[], float]
    ) -> None:
        self._sources.append((family, f"spalloc_gateway_{name}", text, function))

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for family, name, text, function in self._sources:
            yield family(name, text, value=float(function()))

"""What Prometheus is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from spalloc_server import __version__
from spalloc_server.hardware import counts
from spalloc_server.history.waiting_times import WaitingTimes
from spalloc_server.model.board_states import count_states
from spalloc_server.model.job_tuples import JobState
from spalloc_server.observe.observer import Observed
from spalloc_server.observe.stats import Tally
from spalloc_server.web.snapshot import Snapshot

STATES_OF_JOBS = (JobState.queued, JobState.power, JobState.ready)


def metrics_text(
    server: Observed, times: WaitingTimes, snapshot: Snapshot | None
) -> bytes:
    """All metrics, as text.

    :param snapshot: None where the server does not give one; what it would tell is
        left out then
    """
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_ServerCollector(server, times, snapshot))
    return generate_latest(registry)


class _ServerCollector(Collector):
    def __init__(
        self, server: Observed, times: WaitingTimes, snapshot: Snapshot | None
    ) -> None:
        self._server = server
        self._times = times
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        """All metrics but those of the process."""
        yield InfoMetricFamily(
            "spalloc_server", "The server.", value={"version": __version__}
        )
        if self._snapshot is not None:
            yield from _state_metrics(self._snapshot)
        yield _histogram(
            "spalloc_job_queue_seconds",
            "How long jobs waited for boards.",
            self._times.queued,
        )
        by_size = HistogramMetricFamily(
            "spalloc_job_wait_seconds",
            "How long jobs waited for boards, by how many boards they asked for.",
            labels=["boards"],
        )
        for size, tally in self._times.queued_by_size.items():
            by_size.add_metric([size], _buckets(tally), tally.total)
        yield by_size
        yield _histogram(
            "spalloc_job_ready_seconds",
            "How long it took from when jobs were given boards until these were ready.",
            self._times.preparing,
        )
        yield from self._server_metrics()

    def _server_metrics(self) -> Iterator[Metric]:
        stats = self._server.stats
        commands = CounterMetricFamily(
            "spalloc_commands",
            "Commands of clients, by outcome.",
            labels=["command", "outcome"],
        )
        for (name, outcome), number in sorted(stats.commands().items()):
            commands.add_metric([name, outcome], number)
        yield commands
        disconnects = CounterMetricFamily(
            "spalloc_disconnects", "Clients that are gone.", labels=["reason"]
        )
        for reason, number in sorted(stats.disconnects.copy().items()):
            disconnects.add_metric([reason], number)
        yield disconnects
        refused = CounterMetricFamily(
            "spalloc_refused_connections",
            "Connections that were not taken in.",
            labels=["reason"],
        )
        for reason, number in sorted(stats.refused.copy().items()):
            refused.add_metric([reason], number)
        yield refused
        yield GaugeMetricFamily(
            "spalloc_clients", "Connected clients.", value=self._server.client_count
        )
        yield CounterMetricFamily(
            "spalloc_store_errors",
            "How often state could not be written to the disk.",
            value=self._server.store_errors,
        )
        errors = CounterMetricFamily(
            "spalloc_internal_errors",
            "Errors in the server itself that no command was told of.",
            labels=["where"],
        )
        for where, number in sorted(self._server.internal_errors.items()):
            errors.add_metric([where], number)
        yield errors
        yield _histogram(
            "spalloc_loop_turn_seconds",
            "How long turns of the server's loop took, without waiting.",
            stats.turns,
        )


def _state_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    boards = GaugeMetricFamily(
        "spalloc_boards", "Boards, by their state.", labels=["machine", "state"]
    )
    requests = CounterMetricFamily(
        "spalloc_bmp_requests",
        "Requests to BMPs that have ended.",
        labels=["machine", "cabinet", "frame"],
    )
    failures = CounterMetricFamily(
        "spalloc_bmp_failures",
        "Requests to BMPs that have failed.",
        labels=["machine", "cabinet", "frame"],
    )
    kept = GaugeMetricFamily(
        "spalloc_kept_boards",
        "Boards that are kept for a job that waits.",
        labels=["machine"],
    )
    for machine in snapshot.machines:
        states = count_states(machine, snapshot.boards[machine.name])
        for state, number in states.items():
            boards.add_metric([machine.name, state.value], number)
        for (cabinet, frame), bmp in sorted(machine.bmp_ips.items()):
            place = [machine.name, str(cabinet), str(frame)]
            ended, failed = counts.requests_and_failures(bmp)
            requests.add_metric(place, ended)
            failures.add_metric(place, failed)
        kept.add_metric([machine.name], snapshot.kept.get(machine.name, 0))
    yield from (boards, requests, failures, kept)
    jobs = GaugeMetricFamily(
        "spalloc_jobs", "Jobs that have not ended, by their state.", labels=["state"]
    )
    in_state = Counter(job.state for job in snapshot.jobs)
    for job_state in STATES_OF_JOBS:
        jobs.add_metric([job_state.name], in_state[job_state])
    yield jobs


def _histogram(name: str, text: str, tally: Tally) -> Metric:
    return HistogramMetricFamily(
        name, text, buckets=_buckets(tally), sum_value=tally.total
    )


def _buckets(tally: Tally) -> list[tuple[str, float]]:
    return [
        ("+Inf" if bound is None else str(bound), float(number))
        for bound, number in tally.cumulative()
    ]

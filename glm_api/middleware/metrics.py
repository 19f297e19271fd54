"""``GET /metrics`` for Prometheus: vLLM's names with the prefix ``glm_``, so that dashboards need only another prefix.

A request is counted when it is over, a stream at its end. The gauges are read from the backend at each scrape.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from flask import Flask, Response, request
from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from glm_api.backend.base import Backend, Cause, ChildRole
from glm_api.errors import CLIENT_CLOSED_REQUEST
from glm_api.log.lines import stderr
from glm_api.middleware.auth import METRICS_ENDPOINT
from glm_api.middleware.request_record import RequestRecord, request_over
from glm_api.server.connections import MONITORING_PATHS

# Buckets in seconds, from a tiny model to a large one on few CPUs.
LONG = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800)
BETWEEN_TOKENS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)

# A client may send anything as its method, which must not become a label.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
REJECTIONS = ("queue_full", "model_loading", "shutting_down", "overloaded")
PHASES = ("queued", "prefill", "decode")
ROLES: tuple[ChildRole, ...] = ("pipeline", "tokenizer")
CAUSES: tuple[Cause, ...] = ("died", "hung", "load_failed")


class BackendCollector(Collector):
    """The state of the backend, and the number of dropped log lines."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def collect(self) -> Iterator[Metric]:
        """Return the gauges and counters that are read from the backend at each scrape."""
        depth = self._backend.queue_depth()
        ready = self._backend.health().state == "ready"
        yield GaugeMetricFamily("glm_ready", "1 while /health answers 200, else 0.", int(ready))
        yield GaugeMetricFamily("glm_num_requests_running", "Number of running requests.", depth.running)
        yield GaugeMetricFamily("glm_num_requests_waiting", "Number of waiting requests.", depth.waiting)
        restarts = CounterMetricFamily(
            "glm_pipeline_restarts",
            "Number of restarts of the model's processes, by process and cause.",
            labels=["process", "cause"],
        )
        # Export every pair from the start: a counter that first appears as 1 has no `increase()`.
        counted = self._backend.restarts
        for role, cause in itertools.product(ROLES, CAUSES):
            restarts.add_metric([role, cause], counted.get((role, cause), 0))
        yield restarts
        yield CounterMetricFamily(
            "glm_log_lines_dropped", "Number of log lines dropped because standard error was too slow.", stderr.dropped
        )

    def describe(self) -> Iterator[Metric]:
        """Describe nothing: the backend must not be asked before it is set up."""
        return iter(())


class Metrics:
    """The counters and histograms of one application."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, help: str, *labels: str) -> Counter:
            return Counter(f"glm_{name}", help, labels, registry=registry)

        def histogram(name: str, help: str, buckets: tuple[float, ...] = LONG) -> Histogram:
            return Histogram(f"glm_{name}", help, buckets=buckets, registry=registry)

        self.http_requests = counter("http_requests", "Number of HTTP requests.", "route", "method", "status")
        self.prompt_tokens = counter("prompt_tokens", "Number of prompt tokens, including cached tokens.")
        self.cached_tokens = counter("cached_prompt_tokens", "Number of prompt tokens taken from the cache.")
        self.generation_tokens = counter("generation_tokens", "Number of generated tokens.")
        self.success = counter("request_success", "Number of completed answers, by finish reason.", "finished_reason")
        self.rejected = counter(
            "queue_rejected", "Number of requests refused before they were queued, by reason.", "reason"
        )
        self.disconnects = counter(
            "client_disconnects",
            "Number of clients that disconnected before the end of their answer, by phase.",
            "phase",
        )
        self.first_token = histogram(
            "time_to_first_token_seconds", "Time from the request to its first token, in seconds."
        )
        self.between_tokens = histogram(
            "inter_token_latency_seconds", "Mean time between two tokens of a request, in seconds.", BETWEEN_TOKENS
        )
        self.total = histogram(
            "e2e_request_latency_seconds", "Time from the request to the end of its answer, in seconds."
        )
        for reason in REJECTIONS:
            self.rejected.labels(reason)
        for phase in PHASES:
            self.disconnects.labels(phase)
        self.queued = histogram("request_queue_time_seconds", "Time that a request waited in the queue, in seconds.")
        self.prefill = histogram("request_prefill_time_seconds", "Time to evaluate the prompt, in seconds.")
        self.decode = histogram("request_decode_time_seconds", "Time to generate the answer, in seconds.")

    def observe(self, record: RequestRecord) -> None:
        """Count a request that is over."""
        method = record.method if record.method in METHODS else "other"
        self.http_requests.labels(record.route or "unknown", method, record.final_status).inc()
        error = record.error
        # A probe may get the same codes, but wants no place in the queue.
        wanted = method == "POST" and record.route not in MONITORING_PATHS
        if error is not None and error.code in REJECTIONS and record.queue_ms is None and wanted:
            self.rejected.labels(error.code).inc()
        if record.final_status == CLIENT_CLOSED_REQUEST:
            self.disconnects.labels(_phase(record)).inc()
        if record.queue_ms is not None:
            self._observe_work(record)

    def _observe_work(self, record: RequestRecord) -> None:
        self.queued.observe((record.queue_ms or 0) / 1000)
        self.total.observe(record.total_ms / 1000)
        self.prompt_tokens.inc(record.prompt_tokens or 0)
        self.cached_tokens.inc(record.cached_tokens or 0)
        self.generation_tokens.inc(record.completion_tokens or 0)
        if record.first_token_at is not None:
            self.first_token.observe(record.first_token_at - record.began_at)
        if record.prompt_ms is not None:
            self.prefill.observe(record.prompt_ms / 1000)
        if record.predicted_ms is not None:
            self.decode.observe(record.predicted_ms / 1000)
            # The first token of each answer comes with the prompt's evaluation.
            gaps = (record.completion_tokens or 0) - len(record.finish_reasons)
            if gaps > 0:
                self.between_tokens.observe(record.predicted_ms / 1000 / gaps)
        if record.error is None:
            for reason in record.finish_reasons:
                self.success.labels(reason).inc()


def register(app: Flask, backend: Backend) -> None:
    """Count every request of ``app`` and serve ``/metrics``."""
    registry = CollectorRegistry()
    registry.register(BackendCollector(backend))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    build = Info("glm_build", "Version and backend of this server.", registry=registry)
    build.info({"version": app.config["GLM_VERSION"], "backend": app.config["GLM_SETTINGS"].engine})
    metrics = Metrics(registry)

    def observe(_: Flask, record: RequestRecord) -> None:
        metrics.observe(record)

    request_over.connect(observe, app, weak=False)

    @app.get("/metrics", endpoint=METRICS_ENDPOINT)
    def show() -> Response:
        try:
            encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        except TypeError:
            # It compares what the header calls a version with numbers.
            encode, content_type = choose_encoder("")
        return Response(encode(registry), content_type=content_type)


def _phase(record: RequestRecord) -> str:
    if record.started_at is None:
        return "queued"
    return "prefill" if record.first_token_at is None else "decode"

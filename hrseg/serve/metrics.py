"""Prometheus metrics of one server."""

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32)
CONTENT_TYPE = "text/plain; version=0.0.4"

prometheus_client.disable_created_metrics()


class Metrics:
    """Metrics in a registry of their own, so that several servers fit in one process."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter("hrseg_requests", "Requests by path and status.", ["path", "status"], registry=registry)
        self.latency = Histogram(
            "hrseg_request_seconds",
            "From arrival to answer, of admitted images.",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "hrseg_batch_size",
            "Images that went through the network together.",
            buckets=BATCH_BUCKETS,
            registry=registry,
        )
        self.queue_length = Gauge("hrseg_queue_length", "Queue length now.", registry=registry)
        self.places_taken = Gauge("hrseg_places_taken", "Places taken now.", registry=registry)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)

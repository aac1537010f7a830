"""What the service tells Prometheus: counts, times and sizes, never anything of a user's."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The counters of one service, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "masqclip_requests", "Answers, by status.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "masqclip_request_seconds",
            "Seconds from a request to its answer.",
            ["route"],
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self.batch_size = Histogram(
            "masqclip_batch_size",
            "Pictures that went through the model together.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=registry,
        )
        self.pending = Gauge(
            "masqclip_pending_requests", "Requests waiting or worked on.", registry=registry
        )
        self.stored_images = Gauge(
            "masqclip_stored_images", "Encoded pictures in memory.", registry=registry
        )
        self.stored_bytes = Gauge(
            "masqclip_stored_bytes", "Bytes of encoded pictures.", registry=registry
        )

        self.stored_vocabularies = Gauge(
            "masqclip_stored_vocabularies", "Vocabularies in memory.", registry=registry
        )

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)

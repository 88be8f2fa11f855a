"""What the engine of this process did and how long it took, for Prometheus and for SQL.

Names and kinds follow text-embeddings-inference (its ``te_*`` are ``sqlembed_*`` here), with
Prometheus's own endings for units and totals. The one file that imports ``prometheus_client``,
and only when a request is answered by the service, a model is loaded or somebody looks: that takes
35 ms. A vector that is found in memory passes nothing here; in the service its request is
counted and timed, as every one is, which takes 5 µs.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from sqlembed.engine.interface import Metric
from sqlembed.errors import ServiceError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SECONDS = tuple(base * 10.0**power for power in range(-4, 2) for base in (1, 2.5, 5))
"""Bounds of the buckets of a duration: 0.1 ms to 50 s."""
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128)
TOKENS = (8, 16, 32, 64, 128, 192, 256, 512)


class Source(Protocol):
    """What is asked for figures that it has anyway, when somebody looks."""

    def lookups(self) -> Mapping[tuple[str, str], tuple[int, int]]:
        """Hits and misses of the cache by model and kind."""

    def memory(self) -> Mapping[str, int]:
        """The bytes that each loaded model takes."""

    def queues(self) -> Mapping[tuple[str, str], int]:
        """Texts that wait by model and lane."""


_sources: "WeakSet[Any]" = WeakSet()


def watch(source: Source) -> None:
    """Show *source*'s figures too, as long as it lives."""
    _sources.add(source)


def registry() -> "CollectorRegistry":
    """The registry with everything, for ``prometheus_client.generate_latest``."""
    return _figures().registry


def listen(port: int) -> None:
    """Serve the figures to Prometheus at ``http://127.0.0.1:PORT/metrics``, on a thread.

    :raises ServiceError: the port cannot be had
    """
    from prometheus_client import start_http_server

    try:
        start_http_server(port, "127.0.0.1", registry())
    except OSError as error:
        raise ServiceError(
            f"figures cannot be served at 127.0.0.1:{port}: {error}; give another port"
        ) from error


def samples() -> list[Metric]:
    """Every figure as it is now."""
    return [
        Metric(
            sample.name, json.dumps(sample.labels) if sample.labels else None, float(sample.value)
        )
        for family in registry().collect()
        for sample in family.samples
    ]


class request:  # noqa: N801  # used like a function: `with request("embed"):`
    """Count a request and time it; if it fails, count that by the name of the error's class."""

    __slots__ = ("_begun", "_method")

    def __init__(self, method: str) -> None:
        """*method* is the name of the SQL function, one of a few."""
        self._method = method

    def __enter__(self) -> None:
        """Begin."""
        self._begun = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End, and let the error pass."""
        count, duration = _figures().method(self._method)
        count.inc()
        duration.observe(time.perf_counter() - self._begun)
        if kind is not None:
            _figures().failures.labels(kind.__name__).inc()


class ModelFigures:
    """The figures of one model; its histograms take seconds, texts and tokens."""

    def __init__(self, name: str) -> None:
        """Count for the model *name*."""
        figures = _figures()
        self.tokenization = figures.tokenization.labels(name)
        self.queue = figures.queue.labels(name)
        self.inference = figures.inference.labels(name)
        self.batch_size = figures.batch_size.labels(name)
        self.batch_tokens = figures.batch_tokens.labels(name)
        self.load = figures.load.labels(name)


class GenerationFigures:
    """The figures of one generator; its histogram takes seconds, its counters tokens."""

    def __init__(self, name: str) -> None:
        """Count for the model *name*."""
        figures = _figures()
        self.prompt = figures.prompt.labels(name)
        self.read = figures.read.labels(name)
        self.kept = figures.kept.labels(name)
        self.written = figures.written.labels(name)


_making = Lock()


def _figures() -> "_Figures":
    with _making:  # by one thread, where several are the first
        return _made()


@cache
def _made() -> "_Figures":
    return _Figures()


class _Figures:
    def __init__(self) -> None:
        import prometheus_client as prometheus

        self.registry: CollectorRegistry = _quiet(prometheus.CollectorRegistry)()

        def counter(name: str, text: str, label: str = "model") -> prometheus.Counter:
            return prometheus.Counter(f"sqlembed_{name}", text, [label], registry=self.registry)

        def histogram(
            name: str, text: str, buckets: Iterable[float] = SECONDS, label: str = "model"
        ) -> prometheus.Histogram:
            return prometheus.Histogram(
                f"sqlembed_{name}", text, [label], registry=self.registry, buckets=tuple(buckets)
            )

        self.requests = counter("request", "Requests", "method")
        self.failures = counter("request_failure", "Requests that failed, by error class", "err")
        self.duration = histogram(
            "request_duration_seconds", "From a request to its answer", label="method"
        )
        self.tokenization = histogram(
            "request_tokenization_duration_seconds", "Tokenizing the texts of a request"
        )
        self.queue = histogram(
            "request_queue_duration_seconds", "Until the first text of a request was computed"
        )
        self.inference = histogram("batch_inference_duration_seconds", "Computing a batch")
        self.batch_size = histogram("batch_next_size", "Texts in a batch", TEXTS)
        self.batch_tokens = histogram("batch_next_tokens", "Tokens in a batch", TOKENS)
        self.load = histogram("model_load_duration_seconds", "Loading a model, and its probes")
        self.prompt = histogram(
            "generation_prompt_duration_seconds", "Reading the prompt of a text to be written"
        )
        self.read = counter("generation_prompt_tokens", "Tokens of prompts that were computed")
        self.kept = counter(
            "generation_kept_tokens", "Tokens of prompts that were there from the prompt before"
        )
        self.written = counter("generation_tokens", "Tokens that were written")
        self.registry.register(_Watched())
        self._methods: dict[str, tuple[Any, Any]] = {}

    def method(self, name: str) -> tuple[Any, Any]:
        known = self._methods.get(name)
        if known is None:
            known = self.requests.labels(name), self.duration.labels(name)
            self._methods[name] = known
        return known


class _Watched:
    """Collects what the sources have when somebody looks."""

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        hits: Counter[tuple[str, str]] = Counter()
        misses: Counter[tuple[str, str]] = Counter()
        queues: Counter[tuple[str, str]] = Counter()
        memory: Counter[str] = Counter()
        for source in list(_sources):
            for key, (found, missed) in source.lookups().items():
                hits[key] += found
                misses[key] += missed
            queues.update(source.queues())
            memory.update(source.memory())
        families = (
            (CounterMetricFamily, "cache_hits", "Look-ups that found something", "kind", hits),
            (CounterMetricFamily, "cache_misses", "Look-ups that did not", "kind", misses),
            (GaugeMetricFamily, "queue_size", "Texts that wait to be computed", "lane", queues),
        )
        for kind, name, text, label, values in families:
            family = kind(f"sqlembed_{name}", text, labels=["model", label])
            for labels, value in values.items():
                family.add_metric(labels, value)
            yield family
        yield GaugeMetricFamily("sqlembed_models_loaded", "Models in memory", value=len(memory))
        family = GaugeMetricFamily("sqlembed_model_bytes", "Memory of a model", labels=["model"])
        for model, taken in memory.items():
            family.add_metric([model], taken)
        yield family


def _quiet(base: Any) -> Any:
    """A registry without the times at which each figure was created."""

    class Quiet(base):  # type: ignore[misc]
        def collect(self) -> Iterator[Any]:
            for family in super().collect():
                family.samples = [s for s in family.samples if not s.name.endswith("_created")]
                yield family

    return Quiet

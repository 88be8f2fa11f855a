"""What is counted: requests, failures, batches, look-ups; and what looking does not cost."""

import json
import subprocess
import sys
from threading import Thread

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sqlembed.engine import metrics
from sqlembed.engine.local import LocalEngine
from sqlembed.engine.scheduler import Scheduler
from tests.engine.test_scheduler import FakeContext, first, ids


def value(name: str, **labels: str) -> float:
    """The value of one figure now; 0 if it has not been seen yet."""
    found = {
        (each.name, each.labels and tuple(sorted(json.loads(each.labels).items()))): each.value
        for each in metrics.samples()
    }
    return found.get((f"sqlembed_{name}", tuple(sorted(labels.items())) or None), 0)


def test_a_request_is_timed_and_its_failure_counted_by_kind() -> None:
    with metrics.request("counted"):
        pass
    with pytest.raises(LookupError, match="passes"), metrics.request("counted"):
        raise LookupError("passes")
    assert value("request_total", method="counted") == 2
    assert value("request_duration_seconds_count", method="counted") == 2
    assert value("request_failure_total", err="LookupError") == 1


def test_requests_of_many_threads_are_all_counted() -> None:
    def ask() -> None:
        for _ in range(500):
            with metrics.request("many"):
                pass

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value("request_total", method="many") == 8 * 500


def test_batches_are_counted_with_their_texts_and_tokens() -> None:
    scheduler = Scheduler("counted", [FakeContext()])
    scheduler.run([ids(1, 2, 3), ids(4)], first)
    scheduler.run([ids(5)], first)
    scheduler.close()
    named = {"model": "counted"}
    assert value("batch_next_size_count", **named) == 2
    assert value("batch_next_size_sum", **named) == 3
    assert value("batch_next_tokens_sum", **named) == 5
    assert value("batch_next_size_bucket", model="counted", le="1.0") == 1
    assert value("request_queue_duration_seconds_count", **named) == 2
    assert value("batch_inference_duration_seconds_count", **named) == 2
    assert 0 < value("batch_inference_duration_seconds_sum", **named) < 60


def test_models_and_look_ups_are_shown(engine: LocalEngine) -> None:
    def looked() -> tuple[float, float]:
        asked = {"model": "wide", "kind": "embedding"}
        return value("cache_hits_total", **asked), value("cache_misses_total", **asked)

    hits, misses = looked()
    loaded, loads = value("models_loaded"), value("model_load_duration_seconds_count", model="wide")
    engine.embed(["a", "b"], "wide", "document")
    engine.embed(["a"], "wide", "document")
    assert looked() == (hits + 1, misses + 2)
    assert value("models_loaded") == loaded + 1
    assert value("model_load_duration_seconds_count", model="wide") == loads + 1
    assert value("model_bytes", model="wide") > 0
    assert value("queue_size", model="wide", lane="urgent") == 0
    engine.unload("wide")
    assert value("models_loaded") == loaded


def test_prometheus_reads_what_is_shown(engine: LocalEngine) -> None:
    engine.embed(["a"], None, "document")
    with metrics.request("embed"):
        pass
    text = generate_latest(metrics.registry()).decode()
    families = {family.name: family.type for family in text_string_to_metric_families(text)}
    assert families["sqlembed_request_duration_seconds"] == "histogram"
    assert families["sqlembed_cache_hits"] == "counter"
    assert families["sqlembed_queue_size"] == "gauge"
    assert all(name.startswith("sqlembed_") and "created" not in name for name in families)


def test_prometheus_is_imported_when_a_model_is_loaded_and_not_before() -> None:
    program = """
import sys, sqlembed
from sqlembed.engine.cache import Cache
from sqlembed.engine.local import LocalEngine
db = sqlembed.connect(":memory:", engine=LocalEngine(Cache(":memory:", 1 << 20)))
db.execute("SELECT * FROM sqlembed_models").fetchall()
print("prometheus_client" in sys.modules)
db.execute("SELECT * FROM sqlembed_metrics").fetchall()
print("prometheus_client" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]

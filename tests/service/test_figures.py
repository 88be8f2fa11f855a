"""What the service shows of itself, in SQL and to Prometheus; and models that nobody uses."""

import socket
from urllib.request import urlopen

from service.scene import Scene, until

FIGURE = "SELECT sum(value) FROM sqlembed_metrics WHERE name = ?"
FAILURES = """
SELECT value FROM sqlembed_metrics
WHERE name = 'sqlembed_request_failure_total' AND labels ->> 'err' = ?"""
LOADED = "SELECT loaded FROM sqlembed_models WHERE name = 'fake'"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_requests_of_all_programs_are_counted_by_function(scene: Scene) -> None:
    first, second = scene.host("extension"), scene.host("service")
    first.embed("one")
    second.embed("two")
    second.embed("one")
    counted = "SELECT labels ->> 'method', value FROM sqlembed_metrics WHERE name = ?"
    for host in (first, second):
        assert ("embed", 3.0) in host.sql(counted, "sqlembed_request_total")
    assert first.sql(FIGURE, "sqlembed_cache_hits_total") == [1.0]
    assert first.sql(FIGURE, "sqlembed_cache_misses_total") == [2.0]


def test_failures_are_counted_by_kind(scene: Scene) -> None:
    host = scene.host()
    host.error("SELECT embed(1)")
    host.error("SELECT embed('memory')")
    host.error("SELECT embed('memory again')")
    host.error("SELECT embed('x', 'nobody')")
    assert host.sql(FAILURES, "InputError") == [1.0]
    assert host.sql(FAILURES, "MemoryError") == [2.0]
    assert host.sql(FAILURES, "NotFoundError") == [1.0]


def test_prometheus_reads_the_same_at_a_port_that_is_asked_for(scene: Scene) -> None:
    port = free_port()
    scene.start("--metrics", str(port))
    host = scene.host()
    host.embed("one")
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        read = page.read().decode()
    assert 'sqlembed_request_total{method="embed"} 1.0' in read.splitlines()
    assert host.sql(FIGURE, "sqlembed_models_loaded") == [1.0]


def test_a_port_that_is_taken_ends_the_start_in_words(scene: Scene) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = scene.serve("--metrics", str(port))
        assert done.returncode == 1
        assert f"127.0.0.1:{port}" in done.stderr and "give another port" in done.stderr


def test_a_model_that_nobody_uses_is_unloaded_and_comes_back(scene: Scene) -> None:
    host = scene.host(SQLEMBED_KEEP_ALIVE="1")
    vector = host.embed("one")
    assert host.sql(LOADED) == [1]
    until(lambda: host.sql(LOADED) == [0], "the model's end")
    assert host.embed("one") == vector
    host.embed("another")
    assert host.sql(LOADED) == [1]

"""A worker on real weights: a signal comes while the model computes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from harness import Sql
from service.scene import until

BACKLOG = "SELECT count(*), sum(lease > 0), sum(takes), sum(tries) FROM sqlembed_backlog"
TEXT = "a text of the table, number {}, which is as long as two batches are: " + "words " * 150


@pytest.mark.model
def test_a_signal_ends_what_is_computed_and_a_second_run_finishes(
    real: Sql, tmp_path: Path
) -> None:
    real("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    for n in range(120):
        real("INSERT INTO t(body) VALUES (?)", TEXT.format(n))
    real("""SELECT sqlembed_index('t', 'body', '{"backlog": "later"}')""")
    path = str(tmp_path / "real.db")
    environment = os.environ | {"SQLEMBED_CACHE": ":memory:", "SQLEMBED_SOCKET": f"{tmp_path}/s"}
    command = [sys.executable, "-m", "sqlembed", "work", path]
    worker = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    plain = apsw.Connection(path)
    plain.set_busy_timeout(10_000)
    until(lambda: plain.execute("SELECT sum(lease > 0) FROM sqlembed_backlog").get, "its work")
    worker.send_signal(signal.SIGTERM)
    assert (worker.communicate(timeout=60)[1], worker.returncode) == ("", 0)
    left, leased, takes, tries = plain.execute(BACKLOG).fetchall()[0]
    assert (left, leased, takes, tries) == (120, 0, 0, 0)
    assert subprocess.run([*command, "--once"], env=environment, timeout=120).returncode == 0
    plain.close()
    assert real("SELECT indexed, waiting FROM sqlembed_status") == [(120, 0)]

"""Our own migrations: whole or not at all, whoever else is at work; and none changes once it is released."""

import hashlib
import lzma
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import apsw
import pytest
from harness import Sql

import sqlembed
from sqlembed.doors.plans import run
from sqlembed.engine.local import LocalEngine
from sqlembed.errors import InputError
from sqlembed.index import catalog

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FIXTURES = {int(path.name[7:-6]): path for path in HERE.glob("format_*.db.xz")}
DIGESTS = {
    1: "ba1d78aa04b2dcb42ed291917b395b81dff4d0d67c85b1c1f00e7ef2a4fc2997",
    2: "0dab0549117c4798a7524a4a2599bec4ed3024c2969e99fbe43316cd32e8eb8c",
    3: "fa8c046c87110bb2c2e84235396a1fb428149d582d375639b937ee6eced7d572",
    4: "ac398067a7a12897c7c202bd38f9677dbaed4a2cc1756cf8aefb916b836398ff",
    5: "832d3764af710d5d7368c810de0796973dd23e865622e13b68368f8dcbfd4f0d",
}
"""SHA-256 of each migration. Databases were made by them: what is to be otherwise is a new migration."""
NUMBERS = sorted(DIGESTS)
NEWEST = NUMBERS[-1]
MIGRATIONS = "SELECT number FROM sqlembed_migration ORDER BY number"
JOURNALS = ("delete", "wal")
MARKS = {"user_version": 7, "application_id": 0x5153}
"""What an application may have written into its file's header."""
SCHEMA = """
SELECT type, name, sql FROM sqlite_schema
WHERE name LIKE 'sqlembed%' AND type <> 'trigger' ORDER BY type, name"""

# Runs a migration in children that are killed before its first, second, ... statement, each on a copy
# of the database; a cache of one page has what was written before spilled into the file.
KILLED = """
import os, shutil, signal, sys
import apsw
from sqlembed.doors.plans import run
from sqlembed.index import catalog

def migrate(path, left):
    def trace(cursor, sql, bindings):
        nonlocal left
        if db.in_transaction:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return True
    db = apsw.Connection(path)
    db.execute("PRAGMA cache_size = 1")
    db.exec_trace = trace
    run(db, catalog.bring_forward())

old, statement, status = sys.argv[1], 0, 1
while status:
    statement += 1
    shutil.copy(old, f"{old}.{statement}")
    child = os.fork()
    if not child:
        migrate(f"{old}.{statement}", statement)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
print(statement)
"""
TOGETHER = """
import os, sys
import apsw
from sqlembed.doors.plans import run
from sqlembed.index import catalog

path, number = sys.argv[1], int(sys.argv[2])
reading, writing = os.pipe()
children = []
for _ in range(number):
    children.append(os.fork())
    if not children[-1]:
        db = apsw.Connection(path)
        os.close(writing)
        os.read(reading, 1)  # until all may begin
        run(db, catalog.bring_forward())
        os._exit(0)
os.close(writing)
print([os.waitpid(child, 0)[1] for child in children])
"""


def ran(program: str, *arguments: object) -> str:
    """What a program prints; it must not fail."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.fixture(params=NUMBERS[:-1])
def number(request: pytest.FixtureRequest) -> int:
    """An older format."""
    assert isinstance(request.param, int)
    return request.param


@pytest.fixture(params=JOURNALS)
def old(request: pytest.FixtureRequest, number: int, tmp_path: Path) -> Path:
    """A database in that format, in each journal mode."""
    return opened(number, tmp_path / "old.db", str(request.param))


def opened(number: int, path: Path, journal: str = "delete") -> Path:
    """The fixture of a format at *path*, with the fake model of today and the application's marks."""
    path.write_bytes(lzma.decompress(FIXTURES[number].read_bytes()))
    plain = apsw.Connection(str(path))
    for mark, value in MARKS.items():
        plain.execute(f"PRAGMA {mark} = {value}")
    assert plain.execute(f"PRAGMA journal_mode = {journal}").get == journal
    plain.close()
    return path


def flushed(sql: Sql) -> None:
    """Flush; the model fails on one row of the newer formats."""
    with suppress(InputError):
        sql("SELECT sqlembed_flush()")


def state(path: Path) -> dict[str, object]:
    """The format, and what must be the same whatever happens to it."""
    plain = Sql(apsw.Connection(str(path)))
    assert plain("PRAGMA integrity_check") == ["ok"]
    assert {mark: plain.one(f"PRAGMA {mark}") for mark in MARKS} == MARKS
    found = {
        "format": plain(MIGRATIONS),
        "rows": plain("SELECT * FROM sms"),
        "chunks": plain("SELECT * FROM sqlembed_chunk_1"),
        "queue": plain("SELECT * FROM sqlembed_queue"),
    }
    plain.close()
    return found


def test_no_migration_changes_once_it_is_released() -> None:
    files = sorted((ROOT / "migrations").glob("*.sql"))
    found = {int(path.name[:4]): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    # Only of a migration that no release has: note its new digest, and make its fixture again.
    assert found == DIGESTS
    assert len(files) == len(found) and list(range(1, NEWEST + 1)) == NUMBERS


def test_every_format_has_a_database() -> None:
    # Where one is missing: python tests/index/make_format.py
    assert sorted(FIXTURES) == NUMBERS


def test_the_newest_format_is_what_its_database_has(engine: LocalEngine, tmp_path: Path) -> None:
    kept = Sql(sqlembed.connect(str(opened(NEWEST, tmp_path / "kept.db")), engine=engine))
    new = Sql(sqlembed.connect(str(tmp_path / "new.db"), engine=engine))
    new("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    new("CREATE TABLE note(name TEXT PRIMARY KEY, body TEXT)")
    new("SELECT sqlembed_index('note', 'body')")
    new("SELECT sqlembed_index('sms', 'body')")
    # Also an index's own tables: changed ones need a new format, or are not understood by older code.
    assert kept(SCHEMA) == new(SCHEMA)
    kept("UPDATE sqlembed_catalog SET space = ?", engine.space("fake").fingerprint)
    shown = "SELECT name, indexed, waiting, failed, problem FROM sqlembed_status ORDER BY name"
    assert kept(shown) == [("note", 2, 1, 0, None), ("sms", 4, 4, 1, None)]
    nearest = "SELECT id FROM knn('sms', ?, 1) WHERE distance < 1e-6"
    for text, row in (("dinner at eight", [1]), ("very late again", [4]), ("still waiting", [6])):
        assert kept(nearest, text) == row
    assert kept(nearest, "win a prize now") == []
    kept.close()
    new.close()


def test_one_that_is_killed_leaves_the_old_format_whole(old: Path, number: int) -> None:
    before = state(old)
    statements = int(ran(KILLED, old))
    assert statements > 2 * (NEWEST - number)
    # Some had written to the file, or to the log beside it, which the next who opens it takes back.
    assert any(each.stat().st_size for each in old.parent.glob("old.db.*-[jw]*al"))
    for statement in range(1, statements):
        assert state(old.with_name(f"old.db.{statement}")) == before
    done = old.with_name(f"old.db.{statements}")
    assert state(done) == before | {"format": NUMBERS}


def test_one_that_fails_leaves_the_old_format_whole(
    old: Path, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(old)
    half = "CREATE TABLE main.half(x); INSERT INTO half VALUES (1); SELECT nonsense;"
    broken = [*catalog._migrations(), (NEWEST + 1, "broken", half)]
    with monkeypatch.context() as patched:
        patched.setattr(catalog, "_migrations", lambda: broken)
        sql = Sql(sqlembed.connect(str(old), engine=engine))
        assert "no such column: nonsense" in sql.error("SELECT sqlembed_flush()")
        assert not sql.in_transaction
        assert not sql("SELECT 1 FROM sqlite_schema WHERE name = 'half'")
        sql.close()
    assert state(old) == before


def test_several_processes_bring_it_forward_at_once(old: Path) -> None:
    before = state(old)
    assert ran(TOGETHER, old, 5) == str([0] * 5)
    assert state(old) == before | {"format": NUMBERS}


def test_an_application_writes_before_while_and_after(
    old: Path, number: int, engine: LocalEngine
) -> None:
    plain = apsw.Connection(str(old))  # without sqlembed, with the triggers of the old format
    write = "INSERT INTO sms(id, body) VALUES (?, ?)"
    plain.execute("UPDATE sqlembed_catalog SET space = ?", (engine.space("fake").fingerprint,))
    plain.execute(write, (50, "before it"))
    refused = []

    def trace(cursor: apsw.Cursor, sql: str, _: object) -> bool:
        if migrating.in_transaction:
            with pytest.raises(apsw.BusyError) as caught:
                plain.execute(write, (51, "while it runs"))
            refused.append(caught.value)
        return True

    migrating = apsw.Connection(str(old))
    migrating.exec_trace = trace
    run(migrating, catalog.bring_forward())
    assert len(refused) > 2 * (NEWEST - number)
    plain.execute(write, (52, "after it"))
    sql = Sql(sqlembed.connect(str(old), engine=engine))
    assert sql(MIGRATIONS) == NUMBERS
    nearest = "SELECT id FROM knn('sms', ?, 1) WHERE distance < 1e-6"
    for _ in range(2):
        assert sql(nearest, "before it") == [50]
        assert sql(nearest, "while it runs") == []
        assert sql(nearest, "after it") == [52]
        flushed(sql)
    plain.close()
    migrating.close()
    sql.close()


def test_an_older_sqlembed_refuses_it_and_its_triggers_go_on(
    old: Path, number: int, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = Sql(sqlembed.connect(str(old), engine=engine))
    sql("UPDATE sqlembed_catalog SET space = ?", engine.space("fake").fingerprint)
    flushed(sql)
    with monkeypatch.context() as patched:
        known = catalog._migrations()[:number]
        patched.setattr(catalog, "_migrations", lambda: known)
        older = Sql(sqlembed.connect(str(old), engine=engine))
        for statement in ("SELECT id FROM knn('sms', 'x', 1)", "SELECT sqlembed_flush()"):
            assert older.error(statement) == (
                f"SchemaError: this database has format {NEWEST} of sqlembed's tables, and this"
                f" sqlembed knows formats up to {number}; upgrade sqlembed"
            )
        older("INSERT INTO sms(id, body) VALUES (60, 'written by the older one')")
        older.close()
    assert sql("SELECT id FROM knn('sms', 'written by the older one', 1)") == [60]
    sql.close()


def test_the_headers_marks_are_the_applications_own(engine: LocalEngine, tmp_path: Path) -> None:
    path = opened(1, tmp_path / "old.db")
    sql = Sql(sqlembed.connect(str(path), engine=engine))
    sql("UPDATE sqlembed_catalog SET space = ?", engine.space("fake").fingerprint)
    for statement in (
        "SELECT id FROM knn('sms', 'dinner', 1)",
        "SELECT * FROM sqlembed_status",
        "SELECT sqlembed_flush()",
        "SELECT sqlembed_retry()",
        """SELECT sqlembed_index('sms', 'body', '{"name": "now", "mode": "immediate"}')""",
        "INSERT INTO sms(body) VALUES ('another')",
        "SELECT id FROM search('now', 'dinner', 1)",
        "SELECT sqlembed_drop('sms')",
        "SELECT sqlembed_drop('now')",
    ):
        sql(statement)
        assert {mark: sql.one(f"PRAGMA {mark}") for mark in MARKS} == MARKS, statement
    sql.close()
    for directory in ("sqlembed", "sql", "migrations"):
        for source in (ROOT / directory).rglob("*.[sp][qy]*"):
            assert not any(mark in source.read_text() for mark in MARKS), source


def test_what_format_3_kept_in_vec0_is_dropped_and_its_flush_is_refused(
    engine: LocalEngine, tmp_path: Path
) -> None:
    sql = Sql(sqlembed.connect(str(opened(3, tmp_path / "old.db")), engine=engine))
    sql("UPDATE sqlembed_catalog SET space = ?", engine.space("fake").fingerprint)
    codes = "SELECT count(*) FROM sqlite_schema WHERE name GLOB 'sqlembed_code*'"
    assert sql.one(codes) > 1
    sql("SELECT sqlembed_flush('note')")
    assert sql("SELECT id FROM knn('note', 'waiting as well', 1)") == ["c"]
    assert sql("SELECT kind FROM sqlembed_check('note')") == []
    assert sql("SELECT kind FROM sqlembed_check('sms')") == ["tables"]
    flushed(sql)
    sql("SELECT sqlembed_repair()")
    assert sql.one(codes) == 0
    # What an older one, which is at work meanwhile, writes with each part that it stores.
    told = sql.error("INSERT INTO sqlembed_rate(index_id, at, rows) VALUES (1, 1, 1)")
    assert "upgrade sqlembed" in told
    sql.close()

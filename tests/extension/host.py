"""A host with every bad habit; run as ``/usr/bin/python3 host.py EXTENSION [HABIT...]``.

Prints nothing if all is well. Knows nothing of sqlembed but the extension's path.
"""

import ctypes
import os
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading

LIBRARY = sys.argv[1]
KEPT = ctypes.CDLL(LIBRARY)  # so that a leak's stack has names at the end


def connect(path=":memory:", encoding=None, **options):
    db = sqlite3.connect(path, isolation_level=None, **options)
    if encoding:
        db.execute(f"PRAGMA encoding = '{encoding}'")
        db.execute("CREATE TABLE settled(x)")
    db.enable_load_extension(True)
    db.load_extension(LIBRARY)
    return db


def one(db, sql, *bindings):
    ((value,),) = db.execute(sql, bindings).fetchall()
    return value


def error(db, sql, *bindings):
    try:
        rows = db.execute(sql, bindings).fetchall()
    except sqlite3.Error as error:
        return str(error)
    raise AssertionError(f"no error: {sql}: {rows}")


def indexed(db):
    db.execute("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    db.execute(
        "INSERT INTO sms(body) VALUES ('dinner at eight'), ('win a prize'), ('b' || char(0) || 'c')"
    )
    db.execute("SELECT sqlembed_index('sms', 'body')").fetchall()
    return db


def vector(text):
    with connect() as db:
        value = one(db, "SELECT embed(?)", text)
    db.close()
    return value


def utf16():
    for encoding in ("UTF-16le", "UTF-16be"):
        db = indexed(connect(encoding=encoding))
        for text in ("dinner", "Grüße 晚餐 🍝", "", "nul\0inside"):
            assert one(db, "SELECT embed(?)", text) == vector(text)
        assert one(db, "SELECT query FROM knn('sms', 'Grüße 🍝', 1)") == "Grüße 🍝"
        assert one(db, "SELECT text FROM knn('sms', 'dinner at eight', 1)") == "dinner at eight"
        db.execute("SELECT sqlembed_drop('sms')").fetchall()
        db.close()


def twice():
    db = indexed(connect())
    db.load_extension(LIBRARY)
    db.execute("SELECT load_extension(?)", (LIBRARY,)).fetchall()
    cursor = db.execute("SELECT id FROM knn('sms', 'dinner', 2)")
    cursor.fetchone()
    db.load_extension(LIBRARY)  # under a statement that runs
    assert len(cursor.fetchall()) == 1
    db.close()


def replaced():
    db = connect()
    db.create_function("embed", 1, lambda text: "mine")  # the first one's destructor runs
    assert one(db, "SELECT embed('x')") == "mine"
    db.create_function("embed", 1, None)
    assert one(db, "SELECT length(embed('x', 'wide'))") == 512
    db.close()


def two_copies():
    """As in a process with Python's SQLite and APSW's: the second is refused, the first works on."""
    db = indexed(connect())
    with open("/proc/self/maps") as maps, tempfile.TemporaryDirectory() as directory:
        (original,) = set(re.findall(r"/\S*/libsqlite3\S*", maps.read()))
        other = ctypes.CDLL(shutil.copy(original, directory))
    second, words = ctypes.c_void_p(), ctypes.c_char_p()
    assert other.sqlite3_open(b":memory:", ctypes.byref(second)) == 0
    assert other.sqlite3_enable_load_extension(second, 1) == 0
    assert other.sqlite3_load_extension(second, LIBRARY.encode(), None, ctypes.byref(words)) == 1
    assert b"loaded already into another copy of SQLite" in words.value, words.value
    other.sqlite3_free(words)
    assert other.sqlite3_close(second) == 0
    assert one(db, "SELECT id FROM knn('sms', 'dinner at eight', 1)") == 1
    db.close()


def many_connections():
    open_ones = [connect() for _ in range(50)]
    assert len({one(db, "SELECT embed('dinner')") for db in open_ones}) == 1
    for db in open_ones:
        db.close()


def together(work, count=8):
    failures = []

    def guarded(number):
        try:
            work(number)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def threads():
    expected = [vector(f"text {number}") for number in range(8)]

    def own(number):
        for _ in range(5):
            db = connect()
            for _ in range(10):
                assert one(db, "SELECT embed(?)", f"text {number}") == expected[number]
            db.close()

    together(own)
    shared = connect(check_same_thread=False)

    def serialized(number):
        for _ in range(40):
            assert one(shared, "SELECT embed(?)", f"text {number}") == expected[number]
            assert one(shared, "SELECT count(*) FROM embed_each(?)", '["a", "b"]') == 2

    together(serialized)
    shared.close()


def interrupted():
    """By another thread, and by a progress handler, in every kind of call."""
    db = indexed(connect(check_same_thread=False))
    db.execute("CREATE TABLE many(id INTEGER PRIMARY KEY, body TEXT)")
    db.execute("WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 400)"
               " INSERT INTO many(body) SELECT 'text ' || i FROM n")  # fmt: skip
    statements = (
        "SELECT sqlembed_index('many', 'body')",
        "SELECT length(vec_mean(embed(body))) FROM many",
        "SELECT count(*) FROM knn('sms', 'dinner') a, knn('sms', 'prize') b, many",
    )
    for sql in statements:
        for after in (1, 3, 10, 30):
            seen = [0]

            def handler(seen=seen, after=after):
                seen[0] += 1
                return seen[0] > after

            db.set_progress_handler(handler, 50)
            try:
                db.execute(sql).fetchall()
                db.set_progress_handler(None, 0)
                db.execute("SELECT sqlembed_drop('many')").fetchall()
            except sqlite3.Error:
                pass
            db.set_progress_handler(None, 0)
            assert not db.in_transaction
            assert one(db, "SELECT embed('dinner')") == vector("dinner")
    db.close()


def timer():
    """A thousand signals a second are no time limit."""
    db = indexed(connect())
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    for number in range(200):
        assert len(one(db, "SELECT embed(?)", f"under signals {number}")) == 256
    signal.setitimer(signal.ITIMER_REAL, 0)
    db.close()


def forked():
    db = indexed(connect())
    expected = one(db, "SELECT embed('dinner')")
    child = os.fork()
    if child == 0:
        same = one(db, "SELECT embed('dinner')") == expected
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert one(db, "SELECT embed('dinner')") == expected
    db.close()


def files_closed():
    """A host that becomes a daemon: its files get the numbers that were ours."""
    db = indexed(connect())
    expected = one(db, "SELECT embed('dinner')")
    before = set(map(int, os.listdir("/proc/self/fd")))
    links = [fd for fd in before if "socket" in (read_link(fd) or "")]
    for fd in links:
        os.close(fd)
    stranger, other_end = os.pipe()
    mine = [os.open("/dev/null", os.O_RDWR) for _ in range(8)]
    assert one(db, "SELECT embed('dinner')") == expected
    db.close()
    for fd in (*mine, stranger, other_end):
        os.close(fd)  # an error if ours closed it


def read_link(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None


def half_read():
    """Statements that are dropped in the middle, and a connection that is closed under them."""
    db = indexed(connect())
    cursors = [db.execute("SELECT id, text FROM knn('sms', 'dinner', 3)") for _ in range(5)]
    for cursor in cursors:
        cursor.fetchone()
    del cursor, cursors
    gathering = db.execute("SELECT vec_mean(embed('x' || id)) FROM sms GROUP BY id")
    gathering.fetchone()
    gathering.close()
    db.close()


def depth():
    """Calls in the arguments of calls, whose rows are not lost."""
    db = indexed(connect())
    db.execute("CREATE TABLE deep(id INTEGER PRIMARY KEY, body TEXT)")
    db.execute("INSERT INTO deep(body) VALUES ('x')")
    db.execute("SELECT sqlembed_index('deep', 'body')").fetchall()
    nested = "'x'"
    for _ in range(4):
        nested = f"(SELECT text FROM knn('deep', {nested}, 1))"
    assert one(db, f"SELECT {nested}") == "x"
    db.close()


def too_big():
    db = indexed(connect())
    assert "64 MB" in error(db, "SELECT embed(CAST(zeroblob(70000000) AS TEXT))")
    assert "64 MB" in error(db, "SELECT count(*) FROM knn('sms', zeroblob(70000000))")
    assert "64 MB" in error(db, "SELECT vec_mean(zeroblob(70000000))")
    assert one(db, "SELECT embed('dinner')") == vector("dinner")
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 200)
    assert "too big" in error(db, "SELECT embed('dinner')")
    db.close()


def refused():
    """An authorizer that allows nothing of what a plan wants."""
    db = connect()
    db.execute("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    db.set_authorizer(
        lambda action, *_: sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_CREATE_TABLE else 0
    )
    assert "authorized" in error(db, "SELECT sqlembed_index('sms', 'body')")
    db.set_authorizer(None)
    assert not db.in_transaction
    assert one(db, "SELECT sqlembed_index('sms', 'body')") == 0
    db.close()


def no_standard_files():
    """Last: whoever prints into the numbers 0 to 2 must not print into our socket."""
    for fd in (0, 1, 2):
        os.close(fd)
    db = connect()
    assert one(db, "SELECT embed('dinner')") is not None
    low = [read_link(fd) for fd in (0, 1, 2)]
    db.close()
    if any(link and "socket" in link for link in low):
        os._exit(7)
    os._exit(0)


HABITS = (utf16, twice, replaced, two_copies, many_connections, threads, interrupted, timer, forked, files_closed,
          half_read, depth, too_big, refused)  # fmt: skip

if __name__ == "__main__":
    chosen = sys.argv[2:]
    for habit in HABITS:
        if not chosen or habit.__name__ in chosen:
            habit()
    if "no_standard_files" in chosen:
        no_standard_files()

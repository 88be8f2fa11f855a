"""A program that uses SQLite: runs the Python that it is told, a line each, and prints what came of it.

HOST_DOOR says how it has sqlembed: ``extension`` (the standard library's sqlite3, with sqlembed.so),
or an engine of ``sqlembed.connect()``, ``service`` or ``auto``. With the argument ``nursery`` and a
socket's path this forks such programs, for the latter.
"""

import ast
import os
import signal
import sys
import threading
import time

import nursery


def connect(path=":memory:"):
    """Open a database with every function of sqlembed."""
    if DOOR == "extension":
        import sqlite3

        # No transactions but those that a test asks for.
        made = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
        made.enable_load_extension(True)
        made.load_extension(os.environ["HOST_LIBRARY"])
        return made
    import sqlembed
    from sqlembed.service import link

    link.START_COMMAND = (os.environ["SQLEMBED_COMMAND"], "serve")
    return sqlembed.connect(path, engine=DOOR)


def sql(text, *bindings, on=None):
    """All rows; a single column's values as a list."""
    rows = (on or db).execute(text, bindings).fetchall()
    return [row[0] for row in rows] if rows and len(rows[0]) == 1 else rows


def error(work):
    """What *work* raises, as a text; no error is one."""
    try:
        work()
    except Exception as failure:
        return f"{type(failure).__name__}: {failure}"
    raise AssertionError("no error")


def later(seconds, work):
    """Do *work* on a thread, after so many seconds."""
    threading.Timer(seconds, work).start()


def forked(work):
    """*work*, begun in a child process."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            outcome = repr(work())
        except BaseException as failure:
            outcome = repr(f"{type(failure).__name__}: {failure}")
        os.write(writing, outcome.encode())
        os._exit(0)
    os.close(writing)
    return reading, child


def joined(forked_child):
    """What a child of forked() gave."""
    reading, child = forked_child
    with os.fdopen(reading) as pipe:
        outcome = pipe.read()
    os.waitpid(child, 0)
    return ast.literal_eval(outcome)


def timed(work):
    """The seconds that *work* took, and what it gave or raised."""
    start = time.monotonic()
    try:
        outcome = work()
    except Exception as failure:
        outcome = f"{type(failure).__name__}: {failure}"
    return time.monotonic() - start, outcome


def live(_):
    """Run what comes in, line by line."""
    global DOOR, db
    DOOR = os.environ["HOST_DOOR"]
    db = connect(os.environ.get("HOST_DATABASE", ":memory:"))
    print(repr(("ready", None)), flush=True)
    for line in sys.stdin:
        globals()["result"] = None
        try:
            exec(ast.literal_eval(line), globals())
            print(repr(("result", result)), flush=True)  # noqa: F821
        except Exception as failure:
            print(repr(("error", f"{type(failure).__name__}: {failure}")), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["nursery"]:
        import sqlembed.doors.apsw_door  # noqa: F401  # for all that are forked

        nursery.run(sys.argv[2], live)
    else:
        live([])

"""A host of the loadable extension: Debian's python3, told by a test what SQL to run.

Run as ``/usr/bin/python3 host_program.py EXTENSION``. Reads pickled requests on standard
input, and answers each with a pickled ``("rows", ...)`` or ``("error", class, message)``.
Knows nothing of sqlembed but the path of the extension.
"""

import os
import pickle
import sqlite3
import sys

NAMES = {
    "SQLITE_ERROR": "SQLError",
    "SQLITE_BUSY": "BusyError",
    "SQLITE_INTERRUPT": "InterruptError",
    "SQLITE_READONLY": "ReadOnlyError",
}


def opened(path: str, extension: str) -> sqlite3.Connection:
    """A connection to *path* with the extension loaded."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.enable_load_extension(True)
    connection.load_extension(extension)
    connection.enable_load_extension(False)
    return connection


def main(extension: str) -> None:
    """Serve requests until there are no more.

    One is (path, socket, timeout) to open a database, None to close it, or (SQL, bindings).
    """
    connection = None
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if request is None:
                connection.close()
                answer = ("rows", [])
            elif len(request) == 3:
                path, *settings = request
                os.environ["SQLEMBED_SOCKET"], os.environ["SQLEMBED_TIMEOUT"] = settings
                connection = opened(path, extension)
                answer = ("rows", [])
            else:
                answer = ("rows", connection.execute(*request).fetchall())
        except sqlite3.Error as error:
            name = NAMES.get(getattr(error, "sqlite_errorname", None), type(error).__name__)
            answer = ("error", name, str(error))
        pickle.dump((*answer, connection.in_transaction if request else False), sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1])

"""Keep a database of the newest format as a fixture: python tests/index/make_format.py.

Run it, from the repository's directory, in the commit that adds a migration, and again if that migration
changes before it is released; never after, nor for an older format. It writes ``format_N.db.xz``.
test_migrating.py wants one for each migration, and the migration's digest.
"""

import lzma
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from harness import FAILING, FakeModel, Sql, install_fake  # noqa: E402

import sqlembed  # noqa: E402
from sqlembed.engine import library  # noqa: E402

SCRIPT = (
    "CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)",
    "INSERT INTO sms(body) VALUES ('dinner at eight'), ('win a prize now'), ('see you at dinner'),"
    f" ('late again'), ('{FAILING}')",
    "CREATE TABLE note(name TEXT PRIMARY KEY, body TEXT)",
    "INSERT INTO note VALUES ('a', 'bread and wine'), ('b', 'salt and sea')",
    "SELECT sqlembed_index('note', 'body')",
    """SELECT sqlembed_index('sms', 'body', '{"backlog": "later"}')""",
    "SELECT sqlembed_flush('sms')",  # of which one row fails
    "INSERT INTO sms VALUES (6, 'still waiting')",
    "UPDATE sms SET body = 'very late' WHERE id = 4",
    "UPDATE sms SET body = 'very late again' WHERE id = 4",
    "DELETE FROM sms WHERE id = 2",
    "INSERT INTO note VALUES ('c', 'waiting as well')",
)


def make() -> bytes:
    """The database: rows that are stored, wait, failed, and are gone, unseen by any flush."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ["SQLEMBED_DATA"] = directory
        os.environ["SQLEMBED_CACHE"] = f"{directory}/cache.db"
        os.environ["SQLEMBED_MODEL"] = "fake"
        library.Model = FakeModel  # type: ignore[misc]
        install_fake("fake")
        path = Path(directory, "made.db")
        sql = Sql(sqlembed.connect(str(path)))
        for statement in SCRIPT:
            if statement == "SELECT sqlembed_flush('sms')":
                assert "cannot be stored" in sql.error(statement)
            else:
                sql(statement)
        sql.close()
        return path.read_bytes()


if __name__ == "__main__":
    from sqlembed.index import catalog

    target = HERE / f"format_{catalog._migrations()[-1][0]}.db.xz"
    target.write_bytes(lzma.compress(make(), preset=9))
    print(target)

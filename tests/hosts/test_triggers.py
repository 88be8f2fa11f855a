"""The triggers of an index in hosts that load nothing, and who finds the rows that these wrote."""

import pytest
from hosts.machine import Machine

pytestmark = pytest.mark.model

MAKE = """
CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT);
INSERT INTO sms(body) VALUES ('You have won a prize, call now');
SELECT sqlembed_index('sms', 'body');
"""
WRITE = "INSERT INTO sms(body) VALUES ('Dinner at 8?')"
FIND = "SELECT text FROM knn('sms', 'evening meal', 1)"

PYTHON = """
import sqlite3, sys
_, database, sql, *extension = sys.argv
db = sqlite3.connect(database, isolation_level=None)
if extension:
    db.enable_load_extension(True)
    db.load_extension(extension[0])
for row in db.execute(sql):
    print(*row)
"""
PERL = """
my ($database, $sql, $extension) = @ARGV;
my $db = DBI->connect("dbi:SQLite:dbname=$database", "", "", {RaiseError => 1});
exit !$db->do($sql) unless $extension;
$db->sqlite_enable_load_extension(1);
$db->sqlite_load_extension($extension);
print "@$_\\n" for @{$db->selectall_arrayref($sql)};
"""


def command(host: str, sql: str, *extension: str) -> list[str]:
    """How *host* runs *sql* on app.db, with the extension if it is given."""
    match host:
        case "shell":
            load = [argument for path in extension for argument in ("-cmd", f".load {path}")]
            return ["sqlite3", "-batch", *load, "app.db", sql]
        case "python":
            return ["/usr/bin/python3", "-c", PYTHON, "app.db", sql, *extension]
        case "perl":
            return ["perl", "-MDBI", "-we", PERL, "app.db", sql, *extension]
        case _:
            load = [argument for path in extension for argument in ("--load-extension", path)]
            return ["sqlite-utils", "query", "app.db", sql, "--raw-lines", *load]


@pytest.mark.parametrize(
    ("writer", "finder"),
    [("shell", "python"), ("python", "perl"), ("perl", "sqlite-utils"), ("sqlite-utils", "shell")],
)
def test_a_row_of_a_host_without_sqlembed_is_found_by_another_with_it(
    machine: Machine, writer: str, finder: str
) -> None:
    writing, finding = command(writer, WRITE), command(finder, FIND, machine.extension)
    machine.need(writing[0], finding[0])
    assert machine.shell(MAKE, load=True) == ["1"]
    machine.run(*writing)
    assert machine.lines(*finding) == ["Dinner at 8?"]
    assert machine.shell("SELECT sqlembed_flush();" + FIND, load=True) == ["1", "Dinner at 8?"]

"""A message is cut at every byte, to and fro: an error or the right answer, never another."""

import random
from collections.abc import Iterator

import pytest
from service.proxy import Proxy
from service.scene import DOORS, Host, HostError, Scene

CUT = (
    "sqlembed's service ended",
    "link to sqlembed's service broke",
    "no sqlembed service answers",
)
REOPEN = "db.close(); db = connect()"
CALLS = {"value": "SELECT embed('two words')", "rows": "SELECT path FROM sqlembed_cache"}


@pytest.fixture
def proxy(scene: Scene) -> Iterator[Proxy]:
    """Between the scene's hosts and its service, which runs."""
    scene.start()
    path = scene.directory / "p"
    with Proxy(path, scene.socket) as made:
        # A start that starts nothing: the service is there, and the proxy's to reach.
        scene.environment |= {"SQLEMBED_SOCKET": str(path), "SQLEMBED_COMMAND": "/bin/true"}
        yield made


def outcome(host: Host, text: str) -> object:
    """The rows, or None for an error that says that the service ended."""
    try:
        return host.sql(text)
    except HostError as error:
        assert any(words in str(error) for words in CUT), error
        return None


def measured(host: Host, proxy: Proxy, text: str) -> tuple[object, dict[str, int]]:
    """The right answer, and how many bytes go each way on a connection for it alone."""
    host.run(REOPEN)
    right = host.sql(text)
    return right, dict(zip(("requests", "answers"), proxy.passed, strict=True))


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize(
    ("kind", "way"), [("value", "requests"), ("value", "answers"), ("rows", "answers")]
)
def test_a_call_is_cut_at_every_byte(
    scene: Scene, proxy: Proxy, client: str, kind: str, way: str
) -> None:
    host, text = scene.host(client), CALLS[kind]
    right, sizes = measured(host, proxy, text)
    for length in range(sizes[way]):
        proxy.cut(**{way: length})
        if length % 20 == 0:
            host.run(REOPEN)
        assert outcome(host, text) is None, f"{length} of {sizes[way]} bytes"
        if length % 20 == 19:
            proxy.cut()
            assert host.sql(text) == right
    proxy.cut(**{way: sizes[way] + 1})
    host.run(REOPEN)
    assert host.sql(text) == right


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize("way", ["requests", "answers"])
def test_a_call_that_is_cut_once_is_made_again(
    scene: Scene, proxy: Proxy, client: str, way: str
) -> None:
    host = scene.host(client)
    text = "SELECT embed('two words')"
    right, once = measured(host, proxy, text)
    assert host.sql(text) == right
    twice = dict(zip(once, proxy.passed, strict=True))
    for length in range(0, twice[way], 3):
        proxy.cut(**{way: length}, once=True)
        host.run(REOPEN)
        for _ in range(2):
            assert host.sql(text) == right, f"{length} of {twice[way]} bytes"


PREPARE = """
import shutil
db = connect("before.db")
sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
sql("INSERT INTO t(body) VALUES ('red apple'), ('green pear'), ('blue plum')")
sql("SELECT sqlembed_index('t', 'body')")
sql("INSERT INTO t(body) VALUES ('red cherry')")
db.close()
"""
COPY = """
db.close()
shutil.copy("before.db", "now.db")
db = connect("now.db")
sql("PRAGMA synchronous = OFF")
"""
STATE = "SELECT name, indexed, waiting FROM sqlembed_status"
BEFORE = [("t", 3, 1)]
U_WAITS, U_IS_FULL = [*BEFORE, ("u", 0, 4)], [*BEFORE, ("u", 4, 0)]
FLUSH = "SELECT sqlembed_flush('u')"
PLANS = {
    "search": ("SELECT id FROM knn('t', 'red cherry', 1)", [BEFORE]),
    "flush": ("SELECT sqlembed_flush()", [BEFORE, [("t", 4, 0)]]),
    "drop": ("SELECT sqlembed_drop('t')", [BEFORE, []]),
    "index": (
        "SELECT sqlembed_index('t', 'body', '{\"name\": \"u\"}')",
        [BEFORE, U_WAITS, U_IS_FULL],
    ),
}
"""What each is in the database before, half-way where that is promised, and after."""
CUTS = 24


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_that_is_cut_leaves_a_whole_database(
    scene: Scene, proxy: Proxy, client: str, plan: str
) -> None:
    host = scene.host(client)
    text, states = PLANS[plan]
    host.run(f"os.chdir({str(scene.directory)!r}){PREPARE}{COPY}")
    right = host.sql(text)
    if plan == "search":  # less is asked for when the service remembers the vectors
        for _ in range(2):
            host.run(COPY)
            assert host.sql(text) == right
    sizes = dict(zip(("requests", "answers"), proxy.passed, strict=True))
    chance = random.Random(plan)
    for _ in range(CUTS):
        way = chance.choice(("requests", "answers"))
        length = chance.randrange(sizes[way])
        proxy.cut(**{way: length})
        host.run(COPY)
        assert outcome(host, text) is None, (way, length)
        proxy.cut()
        state = host.sql(STATE)
        assert state in states, (way, length)
        assert host.sql("PRAGMA integrity_check") == ["ok"]
        if state == U_WAITS:
            assert host.sql(FLUSH) == right
        elif state != states[-1] or plan == "search":
            assert host.sql(text) == right
        assert host.sql(STATE) == states[-1]

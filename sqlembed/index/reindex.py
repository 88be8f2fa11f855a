"""A new space beside the old one: filled while the old one is searched, it then takes its place.

The new one is a shadow: a row of the catalog that says which index it replaces, with tables,
triggers and a backlog of its own. It is filled like any index, by any number of processes. In one
transaction it gets the name of the old one, whose tables are then removed a slice at a time.
"""

from dataclasses import replace
from typing import NamedTuple

from sqlembed.engine.chunk import Chunking
from sqlembed.engine.interface import Engine
from sqlembed.engine.space import Space
from sqlembed.errors import InputError, NotFoundError, SchemaError, SqlembedError
from sqlembed.index import backlog, catalog, flush, samples, store, waiting
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index
from sqlembed.index.embedding import ready
from sqlembed.index.options import Lasting, Options
from sqlembed.index.samples import Fitting
from sqlembed.index.source import Source, mapped_names
from sqlembed.index.standing import LAST_ERROR
from sqlembed.plan import Boundary, Plan, Statement, StatementError

MOST_ROUNDS = 5
"""Times that what changed while the shadow was filled is stored, before it takes the old one's
place whatever waits: a writer that never stops must not put that off for ever."""
FEW_ROWS = 256
"""That may wait when it does: a search embeds so many on the spot."""
BETWEEN_ROWS = 1024
"""That are stored in the shadow before it is the old index's turn."""
FAILED_ROWS, FAILED_SHARE = 10, 0.01
"""Rows that the old index has and that fail in the shadow: with more it takes no place."""

TRIGGER_TABLE = "SELECT tbl_name FROM main.sqlite_schema WHERE type = 'trigger' AND name = ?"
TABLE = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE"
CHANGE = "UPDATE main.sqlembed_catalog SET name = ?, mode = ? WHERE index_id = ?"
BEGUN = "UPDATE main.sqlembed_catalog SET from_generation = ? WHERE index_id = ?"
LEFT = """
SELECT 1 FROM main.sqlembed_backlog
WHERE index_id = ? AND generation <= ? AND due IS NOT NULL AND error IS NULL LIMIT 1"""
LOST = """
SELECT count(*) FROM main.sqlembed_backlog AS failed
WHERE index_id = {shadow} AND error IS NOT NULL AND {stored}"""
STORED = """
EXISTS (
    SELECT 1 FROM {same} WHERE chunk.key = {key} AND NOT EXISTS (
        SELECT 1 FROM main.sqlembed_backlog
        WHERE index_id = {old} AND key = {key} AND error IS NOT NULL
    )
)"""
COUNT = "SELECT count(DISTINCT key) FROM main.{}"
PROMOTE = """
UPDATE main.sqlembed_catalog SET
    name = ?, mode = ?, state = 'live', replaces = NULL, from_generation = NULL
WHERE index_id = ?"""


class Target(NamedTuple):
    """What an index is to become."""

    source: Source
    fitting: Fitting
    options: Lasting

    @property
    def space(self) -> Space:
        """Of its vectors."""
        return self.fitting.space


def target(
    engine: Engine,
    index: Index,
    model: str | None = None,
    expression: str | None = None,
    options: Lasting | None = None,
) -> Plan[Target]:
    """What *index* is to become; what is None stays, the model as it is installed now.

    :raises NotFoundError: the table is gone, or the expression's columns
    """
    table = yield from _table(index)
    try:
        seen = yield from sources.inspect(table, expression or index.source.expression)
    except NotFoundError as error:
        raise NotFoundError(
            f"index {index.name}: {error}; to index another text of the table: SELECT"
            f" sqlembed_alter('{index.name}', '{{\"expression\": \"...\"}}'); to remove the index:"
            f" SELECT sqlembed_drop('{index.name}')"
        ) from error
    fitting = yield from samples.fit_again(engine, index, model, seen)
    lasting = options or index.options
    if lasting.chunking != Chunking():
        engine.chunk([""], fitting.space.model, lasting.chunking)  # what is not possible fails here
    return Target(seen, fitting, lasting)


def _table(index: Index) -> Plan[str]:
    """The name of the index's table, which may have been renamed."""
    name = index.source.table
    if not (yield Statement(TABLE, (name,))):
        for (now,) in (yield Statement(TRIGGER_TABLE, (f"sqlembed_{index.index_id}_insert",))):
            return str(now)
    return name


def is_as(index: Index, wanted: Target) -> Plan[bool]:
    """Whether *index*, be it live or a shadow, is what is wanted, and misses no change."""
    same = (index.model, index.space, index.options) == (
        wanted.space.model,
        wanted.space.fingerprint,
        wanted.options,
    )
    return same and index.source.is_like(wanted.source) and (yield from catalog.is_watched(index))


def begin(
    index: Index, wanted: Target | None, name: str | None = None, mode: str | None = None
) -> Plan[Index | None]:
    """Make a shadow of *index* that becomes what is wanted, or find the one that does so already.

    A shadow with another target is given up, also where *index* is as wanted.

    :param wanted: None to leave the shadow alone, if there is one
    :param name: the index's new name, which it gets at once; and so the *mode*
    :returns: the shadow; None if none is needed
    :raises NotFoundError: another has dropped *index* meanwhile, or replaced it by another one
    """
    yield Boundary.BEGIN
    yield from catalog.migrate()
    every = yield from catalog.every()
    old = next((each for each in every if each.index_id == index.index_id), None)
    if old is None or old.state != "live":
        old = yield from _successor(index, every, wanted)
    yield from _change(old, every, name or old.name, mode or old.mode)
    shadow = next((each for each in every if each.replaces == old.index_id), None)
    if wanted is not None:
        shadow = yield from _shadow(old, shadow, wanted)
    yield Boundary.COMMIT
    yield from store.free()
    return shadow


def _successor(index: Index, every: list[Index], wanted: Target | None) -> Plan[Index]:
    """What has taken the place of *index* meanwhile, if that is what is wanted."""
    found = next((e for e in every if e.state == "live" and e.name == index.name), None)
    if found is None or wanted is None or not (yield from is_as(found, wanted)):
        raise catalog.gone(index)
    return found


def _change(index: Index, every: list[Index], name: str, mode: str) -> Plan[None]:
    others = (each for each in every if each.index_id != index.index_id and each.state == "live")
    if any(each.name.lower() == name.lower() for each in others):
        raise SchemaError(f"index {index.name} cannot be called {name}: there is one already")
    if (name, mode) != (index.name, index.mode):
        yield Statement(CHANGE, (name, mode, index.index_id))


def _shadow(old: Index, shadow: Index | None, wanted: Target) -> Plan[Index | None]:
    present = yield from is_as(old, wanted)
    if shadow is not None:
        if not present and (yield from is_as(shadow, wanted)):
            return shadow
        yield from store.retire(shadow)
    if present:
        return None
    lasting = wanted.options
    options = Options(tokens=lasting.tokens, overlap=lasting.overlap, words=lasting.words)
    yield from samples.keep(wanted.fitting)
    made = yield from store.create(old.name, wanted.source, wanted.space, options, old)
    generation = yield from backlog.fill(made)
    yield Statement(BEGUN, (generation, made.index_id))
    return replace(made, from_generation=generation)


def complete(engine: Engine, shadow: Index) -> Plan[int]:
    """Fill *shadow* and have it take its place.

    :returns: the number of rows stored
    :raises InputError: some rows fail; or too many do, and the old index stays in use
    :raises SchemaError: another call has given the shadow up
    """
    failed: dict[int, str] = {}
    done = yield from _fill(engine, shadow, failed)
    swapped, more = yield from _advance(engine, shadow)
    if not swapped:
        now = yield from catalog.now(shadow)
        if now is None or now.state == "dropped":
            raise SchemaError(
                f"what index {shadow.name} was to become was superseded: another call has dropped"
                " it, or wants something else; what it is now: SELECT * FROM sqlembed_status"
            )
        raise InputError((yield from _stuck(now)) or _unfinished(now))
    now = yield from catalog.now(shadow)
    if now is not None and now.state == "live":
        more += yield from flush.drain(engine, now, None, failed)
        if failed:
            raise flush.failure(now, failed)
    return done + more


def _fill(engine: Engine, shadow: Index, failed: dict[int, str]) -> Plan[int]:
    """Store every row of *shadow*, and now and then those that changed in the old index.

    That one is searched meanwhile, and each search embeds what waits.
    """
    done = 0
    while not (yield from is_filled(shadow)):
        failures = len(failed)
        stored = yield from flush.drain(engine, shadow, BETWEEN_ROWS, failed)
        if not stored and len(failed) == failures:
            break  # another stores them, or it is gone
        done += stored
        old = yield from catalog.numbered(shadow.replaces)
        if old is not None and (yield from _problem(engine, old)) is None:
            yield from flush.drain(engine, old)
    return done + (yield from flush.drain(engine, shadow, None, failed))


def go_on(engine: Engine, shadow: Index, most: int | None = None) -> Plan[int]:
    """Store what waits of *shadow*, or *most* rows, and have it take its place if it is filled.

    :returns: the number of rows stored
    """
    if most is None:
        done = yield from _fill(engine, shadow, {})
    else:
        done = yield from flush.drain(engine, shadow, most)
    _, more = yield from _advance(engine, shadow)
    return done + more


def flush_both(engine: Engine, index: Index, most: int | None = None) -> Plan[int]:
    """As :func:`flush.flush`, and the same for what is to take the index's place.

    That is done also where *index* itself cannot be used any more.
    """
    shadow = yield from catalog.shadow_of(index)
    if shadow is None:
        return (yield from flush.flush(engine, index, most))
    problem = yield from _problem(engine, index)
    failed: dict[int, str] = {}
    done = 0
    if problem is None:
        done = yield from flush.drain(engine, index, most, failed)
    done += yield from go_on(engine, shadow, most)
    if (yield from catalog.still(index)):
        if problem is not None:
            raise problem
        if failed:
            raise flush.failure(index, failed)
    return done


def _problem(engine: Engine, index: Index) -> Plan[SqlembedError | None]:
    try:
        yield from catalog.check_watched(index)
        yield from ready(engine, index)
    except SqlembedError as error:
        return error
    return None


def advance(engine: Engine, shadow: Index) -> Plan[bool]:
    """Have *shadow* take its place if every row that it began with is stored, or fails.

    What changed since then is stored first, but for so many times only: a writer that never stops
    must not put it off for ever.

    :returns: whether it has; also if another did it
    """
    return (yield from _advance(engine, shadow))[0]


def _advance(engine: Engine, shadow: Index) -> Plan[tuple[bool, int]]:
    """As :func:`advance`; and how many rows it stored."""
    done = 0
    for rounds_left in reversed(range(MOST_ROUNDS)):
        if (yield from take_place(shadow, whatever_waits=not rounds_left)):
            return True, done
        if not (yield from is_filled(shadow)) or (yield from _stuck(shadow)) is not None:
            break
        done += yield from flush.drain(engine, shadow)
    return False, done


def take_place(shadow: Index, *, whatever_waits: bool = False) -> Plan[bool]:
    """Have *shadow* take its place if every row that it began with is stored, or fails.

    To be called at any time by whoever fills it; a no costs little.

    :param whatever_waits: whether more than a few rows may wait that changed since
    :returns: whether it has; also if another did it
    """
    if not (yield from is_filled(shadow)):
        return False
    if not whatever_waits and (yield from waiting.count(shadow)) > FEW_ROWS:
        return False
    swapped = yield from _swap(shadow)
    yield from store.free()
    return swapped


def _swap(shadow: Index) -> Plan[bool]:
    yield Boundary.BEGIN
    now = yield from catalog.now(shadow)
    swapped = now is not None and now.state == "live"
    if now is not None and now.state == "shadow" and (yield from is_filled(now)):
        yield from catalog.check_watched(now)
        old = yield from catalog.numbered(now.replaces)
        if old is not None and (yield from _obstacle(old, now)) is None:
            yield from store.retire(old)
            yield Statement(PROMOTE, (old.name, old.mode, now.index_id))
            swapped = True
    yield Boundary.COMMIT
    return swapped


def _stuck(shadow: Index) -> Plan[str | None]:
    """Why *shadow* does not take its place though it is filled, in words; None if it may."""
    old = yield from catalog.numbered(shadow.replaces)
    try:
        return None if old is None else (yield from _obstacle(old, shadow))
    except StatementError:
        return None  # another has replaced the old one, and dropped its tables


def _obstacle(old: Index, shadow: Index) -> Plan[str | None]:
    lost = int(str((yield Statement(_lost(old, shadow)))[0][0]))
    if lost <= FAILED_ROWS:
        return None
    stored = int(str((yield Statement(COUNT.format(old.chunk_table)))[0][0]))
    if lost <= FAILED_SHARE * stored:
        return None
    reason = (yield Statement(LAST_ERROR, (shadow.index_id,)))[0][0]
    return (
        f"index {old.name} stays as it is: {lost:,} rows that it has would be lost, since they fail"
        f" in what it was to become, one of them: {reason!s}; when that is mended: SELECT"
        f" sqlembed_retry('{old.name}'), then sqlembed_flush('{old.name}'); to give it up: SELECT"
        f" sqlembed_reindex('{old.name}')"
    )


def progress(index: Index) -> Plan[str | None]:
    """What is to take the place of *index*, and how far that is, in words; None if nothing is."""
    shadow = yield from catalog.shadow_of(index)
    if shadow is None:
        return None
    stored = int(str((yield Statement(COUNT.format(shadow.chunk_table)))[0][0]))
    waits = yield from waiting.count(shadow)
    failed = int(str((yield Statement(backlog.FAILED, (shadow.index_id,)))[0][0]))
    filled = 100 * stored // (stored + waits) if waits else 100
    fail = f", {failed:,} rows fail" if failed else ""
    return f"{shadow.model}, {filled} % filled{fail}"


def _lost(old: Index, shadow: Index) -> str:
    """A query for how many rows fail in *shadow* that *old* has."""
    chunks = f"main.{old.chunk_table} AS chunk"
    same, key = chunks, "failed.key"
    if not old.source.has_keys_of(shadow.source):
        return LOST.format(shadow=shadow.index_id, stored="true")
    if old.source.mapped:
        names = mapped_names(old.source)
        equal = " AND ".join(f"theirs.{name} = ours.{name}" for name in names)
        same = (
            f"main.{shadow.key_table} AS ours JOIN main.{old.key_table} AS theirs ON {equal}"
            f" AND ours.key = failed.key JOIN {chunks}"
        )
        key = "theirs.key"
    stored = STORED.format(same=same, key=key, old=old.index_id)
    return LOST.format(shadow=shadow.index_id, stored=stored)


def _unfinished(shadow: Index) -> str:
    return (
        f"what index {shadow.name} is to become is not filled yet, since rows of it are worked on"
        " elsewhere; call it again, or leave the rest to a flush"
    )


def is_filled(shadow: Index) -> Plan[bool]:
    """Whether no row that it began with waits, but those that fail."""
    now = yield from catalog.now(shadow)
    if now is None or now.state == "dropped":
        return False
    return now.state == "live" or not (yield Statement(LEFT, (now.index_id, now.from_generation)))

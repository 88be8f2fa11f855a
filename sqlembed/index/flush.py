"""Store the vectors of rows that wait: embed outside any write, then write what still holds."""

from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import NamedTuple, TypeVar

from sqlembed.engine.interface import Engine
from sqlembed.errors import InputError, SchemaError
from sqlembed.index import backlog, catalog, embedding, rate, store, waiting
from sqlembed.index import source as sources
from sqlembed.index.backlog import Leased
from sqlembed.index.catalog import Index
from sqlembed.index.embedding import Embedded, check_space, ready
from sqlembed.index.known import known
from sqlembed.plan import Boundary, Plan, Row, Statement, StatementError

Result = TypeVar("Result")

PAGE_ROWS = 512
"""Rows that are leased and read together."""
PART_CHARACTERS = 100_000
"""Of the texts that are embedded before any is stored; a longer one is alone."""
STORED_ROWS = 128
"""Rows that one transaction stores, so that no writer waits long."""
FIRST_TEXTS, MOST_TEXTS = 128, 512
"""Texts that the engine is given at once; as many as take SHORT to LONG seconds."""
SHORT, LONG = 2.0, 10.0
RENEW_SECONDS = 20.0
"""After which leases are renewed."""

SET_ASIDE = """
SELECT key FROM main.sqlembed_backlog WHERE index_id = ? AND due IS NULL AND generation <= ?"""


_texts_at_once: dict[str, int] = {}
"""By embedding space: what was found to take a good time."""


class Outcome(NamedTuple):
    """What became of rows that were worked on."""

    done: int
    """How many are up to date now."""
    failed: dict[int, str]
    """Why the others cannot be stored, by key; it is noted in the backlog."""


def flush(engine: Engine, index: Index, most: int | None = None) -> Plan[int]:
    """Store every row that waits now and is due, or *most* of them, page by page.

    :returns: the number of rows brought up to date
    :raises InputError: some rows fail; the others are stored
    :raises SchemaError: the index misses changes, or its codes are damaged
    """
    failed: dict[int, str] = {}
    done = yield from drain(engine, index, most, failed)
    if failed and (yield from catalog.still(index)):
        raise failure(index, failed)
    return done


def drain(
    engine: Engine, index: Index, most: int | None = None, failed: dict[int, str] | None = None
) -> Plan[int]:
    """Store every row that waits now and is due, or *most* of them, page by page.

    :param failed: takes why rows fail, by key
    :returns: the number of rows brought up to date
    :raises SchemaError: the index misses changes, or its codes are damaged
    :raises SpaceError: it holds vectors of another model
    """
    if not (yield from catalog.is_watched(index)):
        if not (yield from catalog.still(index)):
            return 0  # dropped or replaced meanwhile
        yield from catalog.check_watched(index)
    yield from ready(engine, index)
    try:
        return (yield from _store_all(engine, index, most, {} if failed is None else failed))
    except StatementError:
        if not (yield from catalog.still(index)):
            return 0  # dropped meanwhile, and its tables with it
        raise


def _store_all(engine: Engine, index: Index, most: int | None, failed: dict[int, str]) -> Plan[int]:
    # What is written from now on waits for the next flush, or this one might never end.
    upto = yield from backlog.newest()
    yield from backlog.absorb(upto)
    if (yield from backlog.waits(index, upto)):
        engine.load(index.model)  # before any lease: a model that cannot be is no row's fault
    done, left = 0, most
    # First what nobody works on; then the rest, since who does may have ended, and all
    # shall be stored when this returns.
    for others in (False, True):
        after = 0
        while left is None or left > 0:
            most_now = PAGE_ROWS if left is None else min(left, PAGE_ROWS)
            leased = yield from backlog.lease(index, after, upto, most_now, others=others)
            if not leased:
                break
            after = leased[-1].generation
            outcome = yield from work(engine, index, leased)
            done += outcome.done
            failed |= outcome.failed
            left = None if left is None else left - len(leased)
    if most is None:
        yield from tidy(index, upto)
        yield from store.reclaim(index)
    return done


def failure(index: Index, failed: dict[int, str]) -> InputError:
    """What says that rows of *index* fail, and why."""
    key, reason = next(iter(failed.items()))
    which = f"the row of key {key}" if len(failed) == 1 else f"{len(failed)} rows, first key {key}"
    return InputError(
        f"index {index.name}: {which} cannot be stored: {reason}; the other rows are, and what"
        " failed is tried again later, or when it has changed; at once: SELECT"
        f" sqlembed_retry('{index.name}'), then sqlembed_flush('{index.name}')"
    )


def work(engine: Engine, index: Index, leased: Sequence[Leased]) -> Plan[Outcome]:
    """Embed and store rows that are leased.

    What fails is noted in the backlog. An error that is no row's is raised, and what was not
    stored is given back.

    :raises SqlembedError: the model, the service or the index cannot be used
    """
    begun = monotonic()
    encoding = yield from sources.text_encoding()
    keys = [row.key for row in leased]
    found = yield from sources.read_rows(index.source, index.key_table, keys, encoding)
    if found.failed:
        yield from _check_readable(index, leased)
    failed = {
        key: f"the expression {index.source.expression} fails: {reason}"
        for key, reason in found.failed.items()
    }
    yield from backlog.fail(index, leased, failed)
    rows = [row for row in leased if row.key not in failed]
    texts = {key: text for key, (_, text) in found.rows.items() if text is not None}
    clock = _Clock(begun)
    done, at = 0, 0
    for part in _parts(rows, texts):
        some = {row.key: texts[row.key] for row in part if row.key in texts}
        embedded, unfit = yield from _embed(engine, index, some, rows[at:], clock)
        fit = [row for row in part if row.key not in unfit]
        yield from backlog.clear(index, part)
        for start in range(0, len(fit), STORED_ROWS):
            stored = fit[start : start + STORED_ROWS]
            gone = {row.key for row in stored if row.key not in found.rows}
            done += yield from _store(index, stored, embedded, gone)
        yield from backlog.fail(index, part, unfit)
        failed |= unfit
        at += len(part)
    return Outcome(done, failed)


def _check_readable(index: Index, leased: Sequence[Leased]) -> Plan[None]:
    """See that it is a row on which the expression fails, and not this program that cannot run it.

    :raises SchemaError: none can be read here
    """
    reason = yield from sources.unreadable(index.source)
    if reason is None:
        return
    yield from backlog.give_back(index, leased)
    yield from catalog.check_watched(index)
    raise SchemaError(
        f"index {index.name}: its expression {index.source.expression} cannot be run here:"
        f" {reason}; its rows go on waiting. Flush in a program that has every function of it, with"
        " a SQLite as new; or index another text: SELECT"
        f" sqlembed_alter('{index.name}', '{{\"expression\": \"...\"}}')"
    )


class _Clock:
    """When the leases were taken or renewed."""

    def __init__(self, since: float) -> None:
        self._since = since

    def passed(self) -> bool:
        """Whether it is time to renew them; if so, it counts anew."""
        now = monotonic()
        if now - self._since < RENEW_SECONDS:
            return False
        self._since = now
        return True


def _parts(rows: Iterable[Leased], texts: dict[int, str]) -> Iterable[list[Leased]]:
    """*rows* in parts with texts of so many characters."""
    part: list[Leased] = []
    characters = 0
    for row in rows:
        length = len(texts.get(row.key, ""))
        if part and characters + length > PART_CHARACTERS:
            yield part
            part, characters = [], 0
        part.append(row)
        characters += length
    if part:
        yield part


def _embed(
    engine: Engine, index: Index, texts: dict[int, str], leased: Sequence[Leased], clock: _Clock
) -> Plan[tuple[dict[int, list[Embedded]], dict[int, str]]]:
    """The chunks of *texts* with their vectors, by key; and why others have none."""

    def cut() -> tuple[dict[str, list[embedding.Part]], dict[str, str]]:
        different = dict.fromkeys(texts.values())
        return embedding.apart(
            engine, index.model, different, lambda some: embedding.cut(engine, index, some)
        )

    parts, failed = yield from _or_give_back(index, leased, cut)
    wanted = {
        key: [part.digest for part in parts[text]] for key, text in texts.items() if text in parts
    }
    had = yield from known(index, wanted)
    vectors = {p.text: had[p.digest] for each in parts.values() for p in each if p.digest in had}
    missing = [
        text
        for text in dict.fromkeys(part.text for each in parts.values() for part in each)
        if text not in vectors
    ]
    while missing:
        size = _texts_at_once.setdefault(index.space, FIRST_TEXTS)
        some, missing = missing[:size], missing[size:]

        def compute(some: list[str] = some) -> tuple[dict[str, bytes], dict[str, str]]:
            made = embedding.apart(
                engine, index.model, some, lambda each: engine.embed(each, index.model, "document")
            )
            check_space(engine, index)  # computing may have loaded weights installed meanwhile
            return made

        begun = monotonic()
        made, unfit = yield from _or_give_back(index, leased, compute)
        vectors |= made
        failed |= unfit
        if len(some) == size:
            _adapt(index, size, monotonic() - begun)
        if clock.passed():
            yield from backlog.renew(index, leased)
    reasons = {
        key: reason
        for key, text in texts.items()
        for part_text in (text, *(part.text for part in parts.get(text, ())))
        if (reason := failed.get(part_text)) is not None
    }
    embedded = {
        key: embedding.joined(parts[text], vectors)
        for key, text in texts.items()
        if key not in reasons
    }
    return embedded, reasons


def _adapt(index: Index, size: int, took: float) -> None:
    if took < SHORT:
        _texts_at_once[index.space] = min(2 * size, MOST_TEXTS)
    elif took > LONG:
        _texts_at_once[index.space] = max(size // 2, 1)


def _or_give_back(
    index: Index, leased: Sequence[Leased], compute: Callable[[], Result]
) -> Plan[Result]:
    """What *compute* gives; if it raises, the rows may be taken by others."""
    try:
        return compute()
    except (Exception, KeyboardInterrupt):
        yield from backlog.give_back(index, leased)
        raise


def _store(
    index: Index, rows: Sequence[Leased], embedded: dict[int, list[Embedded]], gone: set[int]
) -> Plan[int]:
    """Replace what is stored of those of *rows* that still wait; how many these are."""
    yield Boundary.BEGIN
    if not (yield from catalog.still(index)):  # dropped meanwhile
        yield Boundary.COMMIT
        return 0
    yield from catalog.check_watched(index)
    held = yield from backlog.still(index, rows)
    yield from replace(index, [row.key for row in held], embedded)
    yield from backlog.done(index, held)
    yield from store.forget_keys(index, [row.key for row in held if row.key in gone])
    yield from rate.note(index, len(held))
    yield Boundary.COMMIT
    return len(held)


def replace(index: Index, keys: Sequence[int], embedded: dict[int, list[Embedded]]) -> Plan[None]:
    """Store the chunks of these rows in place of what is stored of them."""
    yield from store.forget(index, keys)
    pairs = [
        (key, ordinal, part) for key in keys for ordinal, part in enumerate(embedded.get(key, []))
    ]
    chunks: list[Row] = [
        (key, ordinal, part.start, part.stop, part.digest, part.vector)
        for key, ordinal, part in pairs
    ]
    yield from store.add(index, chunks, [part.text for _, _, part in pairs])


def tidy(index: Index, upto: int) -> Plan[None]:
    """Remove what is stored of rows that REPLACE deleted, and what waits of them, set aside."""
    query = sources.orphans(
        index.source, index.chunk_table, index.key_table, waiting.nowhere(index, "sqlembed_ours")
    )
    some = bool((yield Statement(query)))
    aside = [int(str(key)) for (key,) in (yield Statement(SET_ASIDE, (index.index_id, upto)))]
    if not some and not aside:
        return
    yield Boundary.BEGIN
    if (yield from catalog.still(index)):
        if aside:
            encoding = yield from sources.text_encoding()
            found = yield from sources.read_rows(index.source, index.key_table, aside, encoding)
            for key in aside:
                if key not in found.rows and key not in found.failed:
                    yield from backlog.forget(index, key, upto)
        # Asked again under the write lock: such a row may have come back meanwhile.
        gone = [key for (key,) in (yield Statement(query)) if isinstance(key, int)]
        yield from store.forget(index, gone)
        yield from store.forget_keys(index, gone)
    yield Boundary.COMMIT

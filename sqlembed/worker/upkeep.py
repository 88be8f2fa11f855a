"""What is to be done for an index once nothing of it waits."""

from sqlembed.index import flush, reindex, store
from sqlembed.index.catalog import Index
from sqlembed.plan import Plan


def drained(index: Index, upto: int) -> Plan[None]:
    """Put *index* in order, whose rows up to the generation *upto* are stored or set aside.

    It is called again and again, at the latest when something of it was stored; what it does has
    to be in transactions of its own, and to be worth its time.
    """
    yield from flush.tidy(index, upto)
    yield from store.reclaim(index)


def wants_place(shadow: Index) -> Plan[bool]:
    """Whether *shadow* has every row that it began with; only reads."""
    return shadow.state == "shadow" and (yield from reindex.is_filled(shadow))


def take_place(shadow: Index, tries: int) -> Plan[bool]:
    """Have *shadow* take its place, in the end with rows that wait: some writers never stop."""
    return (yield from reindex.take_place(shadow, whatever_waits=tries >= reindex.MOST_ROUNDS))


def free() -> Plan[None]:
    """Remove what indexes left that were replaced."""
    yield from store.free()

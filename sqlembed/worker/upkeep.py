"""What is to be done for an index once nothing of it waits."""

from sqlembed.index import flush
from sqlembed.index.catalog import Index
from sqlembed.plan import Plan


def drained(index: Index, upto: int) -> Plan[None]:
    """Put *index* in order, whose rows up to the generation *upto* are stored or set aside.

    It is called again and again, at the latest when something of it was stored; what it does has
    to be in transactions of its own, and to be worth its time.
    """
    yield from flush.tidy(index, upto)

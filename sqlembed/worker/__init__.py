"""The worker: stores what waits in many databases, in the background, for years.

In the order of the work: ``loop`` takes turns between ``database`` after database, when
``conditions`` allow it; ``upkeep`` is what is left to do where nothing waits. ``trouble`` is what
stands in the way, ``report`` what is told of it all, and ``stop`` ends it.
"""

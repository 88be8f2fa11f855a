"""From a row that changed to a row that is found.

In the order of the data: the application's table (source), the triggers that put
a changed row on the queue (triggers), the list of indexes (catalog), storing what
waits (flush, store), and finding the nearest (knn). All of it is plans: see ``sqlembed.plan``.
"""

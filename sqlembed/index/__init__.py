"""From a row that changed to a row that is found.

In the order of the data: the application's table (source), the triggers that put a changed row
on the queue (triggers), the list of indexes (catalog), rows that wait (backlog, waiting), storing
them (flush, embedding, known, store), how far that is (standing, rate), and finding the nearest
(fresh, knn, search). All of it is plans: see ``sqlembed.plan``.
"""

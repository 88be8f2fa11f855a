"""The service: one process holds the models, every program of the user asks it.

In the order of the data: ``frames`` (bytes on the socket), ``address`` (where the socket is,
and whose), ``client`` (the asking side, in Python), ``conversation`` (the answering side, a
client each), ``server`` (all clients, from the first to the last), ``daemon`` (one service,
in the background). docs/protocol.md describes what is said.
"""

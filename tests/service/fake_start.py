"""The ``sqlembed`` command of a scene: has the nursery (see ``fake_serve.py``) fork it."""

import os
import socket
import sys

KILLED = 137

environment = "\0".join(f"{name}={value}" for name, value in os.environ.items())
with socket.socket(socket.AF_UNIX) as nursery:
    nursery.connect(os.environ["FAKE_NURSERY"])
    told = environment + "\0\0" + "\0".join(sys.argv[1:])
    socket.send_fds(nursery, [told.encode()], [0, 1, 2])
    code = nursery.recv(1)
sys.exit(code[0] if code else KILLED)

"""The ``sqlembed`` command of a scene: has the nursery of services fork ``fake_serve.py``."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from nursery import order

KILLED = 137

_, connection = order(os.environ["FAKE_NURSERY"], os.environ, sys.argv[1:], [0, 1, 2])
code = connection.recv(1)
sys.exit(code[0] if code else KILLED)

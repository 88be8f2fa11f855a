"""The application: it loads sqlembed into each connection that Django opens."""

import subprocess
from typing import Any

from django.apps import AppConfig
from django.db.backends.signals import connection_created


def load(connection: Any, **_: object) -> None:
    """Load the extension; Python's sqlite3 must be able to, as Debian's is."""
    db = connection.connection
    path = subprocess.run(["sqlembed", "path"], capture_output=True, text=True, check=True)
    db.enable_load_extension(True)
    db.load_extension(path.stdout.strip())
    db.enable_load_extension(False)


class ChatConfig(AppConfig):
    """Where Django begins."""

    name = "chat"

    def ready(self) -> None:
        """Before the first connection."""
        connection_created.connect(load)

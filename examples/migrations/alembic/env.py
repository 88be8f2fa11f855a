"""Alembic on a database with sqlembed: the extension is loaded into each connection.

Python's sqlite3 must be able to load extensions: Debian's is, and pyenv's if it was built with
``--enable-loadable-sqlite-extensions``.
"""

import subprocess
from typing import Any

from alembic import context
from sqlalchemy import Connection, create_engine, event

EXTENSION = subprocess.run(
    ["sqlembed", "path"], capture_output=True, text=True, check=True
).stdout.strip()

engine = create_engine(f"sqlite:///{context.get_x_argument(as_dictionary=True)['database']}")


@event.listens_for(engine, "connect")
def load(db: Any, _: object) -> None:
    """Load sqlembed, and leave transactions to SQLAlchemy: Python's own begin too late for DDL."""
    db.isolation_level = None
    db.enable_load_extension(True)
    db.load_extension(EXTENSION)
    db.enable_load_extension(False)


@event.listens_for(engine, "begin")
def begin(connection: Connection) -> None:
    """So that a migration that fails leaves nothing."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


with engine.connect() as connection:
    context.configure(
        connection=connection,
        transactional_ddl=True,
        transaction_per_migration=True,
        # Tables of sqlembed are no business of --autogenerate.
        include_name=lambda name, *_: not (name or "").startswith("sqlembed_"),
    )
    with context.begin_transaction():
        context.run_migrations()

"""Messages are found by their meaning."""

from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """No model runs inside the transaction: the rows wait, and are found meanwhile."""
    op.execute("""SELECT sqlembed_index('message', 'body', '{"backlog"\\: "later"}')""")


def downgrade() -> None:
    """The table stays as it is."""
    op.execute("SELECT sqlembed_drop('message')")

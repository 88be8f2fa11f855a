"""A batch migration puts a copy in the table's place, without the triggers of any index."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Without its index, which is made again; vectors of the same texts come from the cache."""
    op.execute("SELECT sqlembed_drop('message')")
    with op.batch_alter_table("message") as batch:
        batch.alter_column("body", nullable=False, existing_type=sa.Text)
    op.execute("""SELECT sqlembed_index('message', 'body', '{"backlog"\\: "later"}')""")


def downgrade() -> None:
    """The same the other way."""
    op.execute("SELECT sqlembed_drop('message')")
    with op.batch_alter_table("message") as batch:
        batch.alter_column("body", nullable=True, existing_type=sa.Text)
    op.execute("""SELECT sqlembed_index('message', 'body', '{"backlog"\\: "later"}')""")

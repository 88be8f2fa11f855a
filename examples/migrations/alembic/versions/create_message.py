"""The application's table."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make it."""
    op.create_table(
        "message", sa.Column("id", sa.Integer, primary_key=True), sa.Column("body", sa.Text)
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("message")

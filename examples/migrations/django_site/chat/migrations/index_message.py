"""Messages are found by their meaning."""

from django.db import migrations

# No model runs inside the migration's transaction: the rows wait, and are found meanwhile.
INDEX = """SELECT sqlembed_index('message', 'body', '{"backlog": "later"}')"""
DROP = "SELECT sqlembed_drop('message')"


class Migration(migrations.Migration):
    """The table stays as it is."""

    dependencies = (("chat", "create_message"),)
    operations = (migrations.RunSQL(INDEX, DROP),)

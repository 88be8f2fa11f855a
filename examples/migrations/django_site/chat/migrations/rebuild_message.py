"""Django alters a column by a copy in the table's place, without the triggers of any index."""

from django.db import migrations, models

from chat.migrations.index_message import DROP, INDEX


class Migration(migrations.Migration):
    """Without its index, which is made again; vectors of the same texts come from the cache."""

    dependencies = (("chat", "index_message"),)
    operations = (
        migrations.RunSQL(DROP, INDEX),
        migrations.AlterField("Message", "body", models.TextField(default="")),
        migrations.RunSQL(INDEX, DROP),
    )

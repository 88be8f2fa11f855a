"""The application's table."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Make it."""

    initial = True
    operations = (
        migrations.CreateModel(
            "Message",
            [
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("body", models.TextField(null=True)),
            ],
            options={"db_table": "message"},
        ),
    )

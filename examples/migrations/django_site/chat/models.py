"""What the application stores."""

from django.db import models


class Message(models.Model):
    """Found by its meaning, with ``Message.objects.raw()`` and SQL that joins knn()."""

    id = models.AutoField(primary_key=True)
    body = models.TextField(default="")

    class Meta:
        """The table's name, which is the index's too."""

        db_table = "message"

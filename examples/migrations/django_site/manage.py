"""A Django project: DATABASE=app.db python examples/migrations/django_site/manage.py migrate."""

import os

from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(
    INSTALLED_APPS=["chat.apps.ChatConfig"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["DATABASE"],
            # A transaction that reads before it writes fails where another writes meanwhile.
            "OPTIONS": {"transaction_mode": "IMMEDIATE"},
        }
    },
)
execute_from_command_line()

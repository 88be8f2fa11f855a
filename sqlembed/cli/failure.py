"""How a verb fails: one line on stderr, and the exit code 1."""

from typing import IO, Any

import click


class Failure(click.ClickException):
    """What a person did, asked for or has cannot work; the message says why."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message in one line."""
        click.echo(f"sqlembed: {' '.join(self.message.split())}", file=file, err=True)

"""The option ``--when`` of what works in the background."""

import click

from sqlembed.worker.conditions import WHEN

when_option = click.option(
    "--when",
    default=WHEN[0],
    show_default=True,
    type=click.Choice(WHEN),
    help="Work only while the machine charges, or while other programs leave it idle.",
)

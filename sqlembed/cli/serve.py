"""``sqlembed serve``: one process that holds the models for every program of the user."""

import socket

import click

from sqlembed import settings
from sqlembed.service import daemon
from sqlembed.service.server import Server


@click.command("serve")
@click.option("--foreground", is_flag=True, help="Stay in this terminal, and log to it.")
@click.option(
    "--idle",
    metavar="SECONDS",
    default=settings.IDLE_SECONDS,
    show_default=True,
    type=click.IntRange(min=0),
    help="End when nobody has asked for so long; 0 for never.",
)
@click.option("--stop", is_flag=True, help="End the service that runs, after what it is doing.")
def verb(foreground: bool, idle: int, stop: bool) -> None:
    """The loadable extension starts it by itself; a second start changes nothing.

    SQLEMBED_SOCKET moves its socket, SQLEMBED_LOG its log.
    """
    place = daemon.Place(settings.socket_path())
    if stop:
        click.echo("ended" if daemon.stop(place) else "no service runs")
        return

    def start(listener: socket.socket) -> Server:
        # Imported here: the socket listens before llama.cpp is loaded.
        from sqlembed.engine.local import LocalEngine

        return Server(listener, LocalEngine(), idle or None)

    if not daemon.serve(place, start, foreground=foreground):
        click.echo(f"a service runs already at {place.path}")

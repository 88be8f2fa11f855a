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
@click.option(
    "--metrics",
    metavar="PORT",
    envvar="SQLEMBED_METRICS",
    type=click.IntRange(1, 65535),
    help="Show figures to Prometheus at 127.0.0.1:PORT/metrics (SQLEMBED_METRICS).",
)
@click.option("--stop", is_flag=True, help="End the service that runs, after what it is doing.")
def verb(foreground: bool, idle: int, metrics: int | None, stop: bool) -> None:
    """The loadable extension starts it by itself; a second start changes nothing.

    SQLEMBED_SOCKET moves its socket, SQLEMBED_LOG its log.
    """
    place = daemon.Place(settings.socket_path())
    if stop:
        click.echo("ended" if daemon.stop(place) else "no service runs")
        return

    def start(listener: socket.socket) -> Server:
        # Imported here: the socket listens before llama.cpp is loaded.
        from sqlembed.engine import metrics as figures
        from sqlembed.engine.local import LocalEngine

        engine, keep_alive = LocalEngine(), settings.keep_alive()
        if metrics is not None:
            figures.listen(metrics)

        def tick() -> None:
            for name in engine.expire(keep_alive):
                daemon.log.info("%s unloaded: not used for %d seconds", name, keep_alive)

        return Server(listener, engine, idle or None, tick)

    if not daemon.serve(place, start, foreground=foreground):
        click.echo(f"a service runs already at {place.path}")

"""``sqlembed serve``: one process that holds the models for every program of the user."""

import socket
from pathlib import Path

import click

from sqlembed import settings
from sqlembed.cli.failure import Failure
from sqlembed.cli.when import when_option
from sqlembed.service import daemon
from sqlembed.service.server import Server


@click.command("serve")
@click.option("--foreground", is_flag=True, help="Stay in this terminal, and log to it.")
@click.option(
    "--idle",
    metavar="SECONDS",
    type=click.IntRange(min=0),
    help="End when nobody has asked for so long; 0 for never."
    f"  [default: {settings.IDLE_SECONDS}; with --work 0]",
)
@click.option(
    "--work",
    "databases",
    metavar="DB",
    multiple=True,
    help="Store what waits in this database, as `sqlembed work` does; may be given several times.",
)
@when_option
@click.option(
    "--metrics",
    metavar="PORT",
    envvar="SQLEMBED_METRICS",
    type=click.IntRange(1, 65535),
    help="Show figures to Prometheus at 127.0.0.1:PORT/metrics (SQLEMBED_METRICS).",
)
@click.option("--stop", is_flag=True, help="End the service that runs, after what it is doing.")
def verb(
    foreground: bool,
    idle: int | None,
    databases: tuple[str, ...],
    when: str,
    metrics: int | None,
    stop: bool,
) -> None:
    """The loadable extension starts it by itself; a second start changes nothing.

    SQLEMBED_SOCKET moves its socket, SQLEMBED_LOG its log. What --when means is told by
    `sqlembed work --help`; questions are always answered.
    """
    place = daemon.Place(settings.socket_path())
    if stop:
        click.echo("ended" if daemon.stop(place) else "no service runs")
        return
    if idle is None:
        idle = 0 if databases else settings.IDLE_SECONDS
    paths = [str(Path(path).absolute()) for path in databases]

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

        if not paths:
            return Server(listener, engine, idle or None, tick)
        from sqlembed.cli.working import Background

        background = Background(paths, when, engine, daemon.log)
        background.start()
        return Server(listener, engine, idle or None, tick, background.end)

    if not daemon.serve(place, start, foreground=foreground):
        if paths:
            raise Failure(
                f"a service runs already at {place.path}, and was not told of these databases;"
                " end that one (sqlembed serve --stop), or use: sqlembed work"
            )
        click.echo(f"a service runs already at {place.path}")

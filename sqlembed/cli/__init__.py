"""The ``sqlembed`` command: a verb is a file here, imported only when it is asked for."""

from importlib import import_module
from inspect import getdoc

import click

from sqlembed import __version__
from sqlembed.cli.failure import Failure
from sqlembed.errors import SqlembedError

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and the signal's number, as shells have it."""

VERBS = {
    "shell": "Run SQL with every function of sqlembed, by hand or from a script.",
    "index": "Index a table's text, and keep it true.",
    "reindex": "Give an index another model while it is searched.",
    "search": "Find the rows that answer a question best.",
    "flush": "Store the vectors of rows that wait.",
    "work": "Store what waits in many databases, in the background.",
    "status": "Show a database's indexes, and how much of them waits.",
    "check": "Say what is wrong with a database's indexes, and put it right.",
    "pull": "Get a model's weights and install them.",
    "verify": "Say what is proven of a model on this machine, and what is not.",
    "probe": "Print the probes of a model on a server, for its manifest.",
    "models": "Show every model known here.",
    "convert": "Turn a model's directory or file into a GGUF.",
    "serve": "Hold the models for every program of the user, in the background.",
    "path": "Print where the loadable extension is.",
    "cache": "Show what the cache remembers, or clear it.",
    "doctor": "Say what is installed and in use, and what is wrong.",
}
"""The first sentence of each verb's help. It stands here, so that ``--help`` imports no verb."""


class Verbs(click.Group):
    """The verbs, and what becomes of their errors."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order in which people meet them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb; its docstring says what its first sentence does not."""
        if cmd_name not in VERBS:
            return None
        verb: click.Command = import_module(f"sqlembed.cli.{cmd_name}").verb
        verb.help = f"{VERBS[cmd_name]}\n\n{getdoc(verb.callback)}"
        return verb

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: click.Context) -> object:
        """Run a verb; an error of ours is a line on stderr, never a traceback."""
        try:
            return super().invoke(ctx)
        except SqlembedError as error:
            raise Failure(str(error)) from error
        except UnicodeEncodeError as error:
            if error.reason != "surrogates not allowed":  # it is the output's encoding
                raise
            raise Failure(f"the command line is not valid UTF-8: {error.object!a}") from error
        except KeyboardInterrupt:
            click.echo(err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sqlembed", message="%(prog)s %(version)s")
def main() -> None:
    """Semantic search inside SQLite, on one machine, offline."""

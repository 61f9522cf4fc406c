"""The typer application: collects the verbs."""

import typer

from withstand import __version__
from withstand.cli.attack import attack
from withstand.cli.audit import audit
from withstand.cli.check import check
from withstand.cli.doctor import doctor
from withstand.cli.harden import harden
from withstand.cli.ls import ls
from withstand.cli.masking import masking
from withstand.cli.radius import radius
from withstand.cli.renamed import Verb
from withstand.cli.replay import replay
from withstand.cli.report import report
from withstand.cli.risk import risk
from withstand.cli.smooth import smooth
from withstand.cli.theory import theory
from withstand.cli.verify import verify

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with: withstand audit digits-cnn --data digits --threat linf:0.1",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"withstand {__version__}")
        raise typer.Exit


@app.callback()
def describe(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """What a deep-learning model withstands, from below by proof and from above by attack."""


for verb in (audit, attack, verify, radius, smooth, harden, masking, risk, theory, doctor, replay, check, report, ls):
    app.command(cls=Verb, short_help=(verb.__doc__ or "").partition("\n")[0])(verb)

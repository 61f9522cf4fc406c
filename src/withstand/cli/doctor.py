"""`withstand doctor`: is the question well posed?"""

import typer

from withstand.cli import options
from withstand.cli.output import only_results_on_stdout, print_json
from withstand.cli.results import print_checks


def doctor(
    model: options.Model,
    data: options.Data,
    threat: options.Threat,
    limit: options.Limit = None,
    property: options.Property = "argmax",
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Check model, data and threat before any number is believed.

    No attack is run. Exit code 1 when a check fails that would stop an audit.
    """
    import withstand

    with only_results_on_stdout():
        checks = withstand.doctor(model, data, threat, property, limit=limit, device=device)
    if json:
        print_json({"checks": [check.model_dump(mode="json") for check in checks]})
    else:
        print_checks(checks)
    if any(check.outcome == "fail" for check in checks):
        raise typer.Exit(1)

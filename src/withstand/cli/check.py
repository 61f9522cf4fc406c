"""`withstand check`: compute again what a run folder, or a certificate, claims."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from withstand.cli.options import Json, Trust
from withstand.cli.output import only_results_on_stdout, print_json
from withstand.core.errors import InputError

if TYPE_CHECKING:
    from withstand.checker.network import Network


def check(
    path: Annotated[
        Path, typer.Argument(metavar="DIR|FILE", help="A run folder, or certificates.", show_default=False)
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="The certificates' network, or the model of a run in memory."),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="The data, where the run was on arrays in memory.")
    ] = None,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Compute again what a run folder or a certificate claims.

    Of a run, figures are counted again, witnesses replayed, certificates checked, and proofs without one repeated in
    float64. Of a certificate, or each one in a folder, every bound is computed again by the independent checker; its
    network is --model, or model.onnx in the folder. Exit code 1 when something does not hold.
    """
    if not path.exists():
        raise InputError(f"There is no '{path}'; give a run folder, a certificate or a folder of certificates.")
    if path.is_file():
        _certificate(path, model, data, json)
        return
    if path.is_dir() and not (path / "run.json").is_file() and (files := sorted(path.rglob("*.safetensors"))):
        _certificates(path, files, model, data, json)
        return
    import withstand

    with only_results_on_stdout():
        result = withstand.check(path, model, data, trust=trust)
    if json:
        print_json(result.to_json())
    else:
        for failure in result.failures:
            typer.echo(typer.style("fail", fg="red") + f"  {failure}")
        verdict = "everything holds" if result.ok else f"{len(result.failures)} things do not hold"
        proofs = f"{result.proofs} proofs ({result.certificates} by certificate)"
        typer.echo(f"{result.samples} samples, {result.witnesses} witnesses, {proofs}: {verdict}.")
    if not result.ok:
        raise typer.Exit(1)


AS_RUN = {
    True: "It holds for the network as it is run in its float type too, rounding errors included.",
    False: "It speaks of real arithmetic: the rounding errors of the network as it is run may exceed its margin.",
}
"""What is said of a certificate that holds."""


def _certificate(path: Path, model: str | None, data: str | None, json: bool) -> None:
    from withstand.checker.check import check as check_certificate
    from withstand.checker.check import holds_as_run
    from withstand.checker.file import load

    if model is None or data is not None:
        raise InputError(f"{path} is a file; to check it as a certificate name its network, as in --model net.onnx.")
    network, certificate = _network(model), load(path)
    report = check_certificate(certificate, network)
    executed = report.holds and holds_as_run(certificate, network)
    if json:
        print_json({**report.to_json(), "executed": executed})
    else:
        typer.echo(report.sentence if report.holds else typer.style("fail", fg="red") + f"  {report.sentence}")
        if report.holds:
            typer.echo(AS_RUN[executed])
    if not report.holds:
        raise typer.Exit(1)


def _certificates(folder: Path, files: list[Path], model: str | None, data: str | None, json: bool) -> None:
    """Each certificate of a folder against one network."""
    from withstand.checker.check import check as check_certificate

    model = model or (str(folder / "model.onnx") if (folder / "model.onnx").is_file() else None)
    if model is None or data is not None:
        raise InputError(f"{folder} holds certificates; to check them name their network, as in --model net.onnx.")
    network = _network(model)
    reports = {str(file): check_certificate(file, network) for file in files}
    if json:
        print_json({"certificates": {file: report.to_json() for file, report in reports.items()}})
    else:
        for file, report in reports.items():
            typer.echo(("" if report.holds else typer.style("fail  ", fg="red")) + f"{file}: {report.sentence}")
        failed = sum(not report.holds for report in reports.values())
        typer.echo(f"{len(files)} certificates: " + (f"{failed} do not hold." if failed else "all hold."))
    if not all(report.holds for report in reports.values()):
        raise typer.Exit(1)


def _network(model: str) -> "Network":
    """The network of an ONNX file, or of a model that withstand writes as one."""
    from withstand.checker.reading import read_network

    if model.endswith(".onnx") or (Path(model).is_file() and not model.endswith(".nnet")):
        return read_network(model)
    from withstand.io.models import load_model

    with only_results_on_stdout():
        return read_network(load_model(model).onnx_bytes())

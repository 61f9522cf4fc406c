"""`python -m withstand.checker FILE --model net.onnx`: checks a certificate with numpy and onnx alone.

Exit code 0: it holds. 1: it does not. 2: a file cannot be used.
"""

import argparse
import json
import sys

from withstand.checker.check import check
from withstand.core.errors import InputError


def main(argv: list[str] | None = None) -> int:
    """Check what the command line names (sys.argv unless given) and give the exit code."""
    parser = argparse.ArgumentParser("python -m withstand.checker", description="Check a certificate.")
    parser.add_argument("file", metavar="FILE", help="The certificate.")
    parser.add_argument("--model", metavar="ONNX", required=True, help="The network it is about.")
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    given = parser.parse_args(argv)
    try:
        report = check(given.file, given.model)
    except (InputError, OSError) as error:
        print(f"withstand: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report.to_json(), allow_nan=False) if given.json else report.sentence)
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())

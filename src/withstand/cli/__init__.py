"""The command line: one file a verb, each a thin caller of the library function of the same name."""

import sys
import time
import traceback


def main(argv: list[str] | None = None) -> int:
    """Run the command line on `argv` (without the program's name; sys.argv unless given) and return the exit code.

    0: done. 2: the user's input cannot be used, told in one sentence. 3: a fault of the tool. 130: interrupted.
    """
    from withstand.cli.clock import process_age

    began = time.monotonic() - (process_age() if argv is None else 0.0)
    from withstand.cli.app import app
    from withstand.core.errors import InputError, ToolFault

    try:
        app(args=argv, prog_name="withstand", obj=began)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except InputError as error:
        return _end(" ".join(str(error).split()), 2)
    except ToolFault as fault:
        return _end(str(fault), 3)
    except BrokenPipeError:
        sys.stdout = None  # type: ignore[assignment]  # nobody reads: say nothing at exit either
        return 1
    except OSError as error:
        what = repr(error.filename) if error.filename else "A file or folder"
        return _end(f"{what} cannot be used: {error.strerror or error}; correct the path or choose another.", 2)
    except KeyboardInterrupt:
        return _end("Interrupted.", 130)
    except Exception:
        traceback.print_exc()
        return _end("This is a fault of withstand; please report it with the lines above.", 3)
    return 0


def _end(sentence: str, code: int) -> int:
    print(f"withstand: {sentence}", file=sys.stderr)
    return code

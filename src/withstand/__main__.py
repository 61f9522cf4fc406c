"""`python -m withstand`: the command line without the installed script."""

from withstand.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

"""Faults as a matrix, on a cluster of seven network namespaces of this machine. See README.md here."""

from __future__ import annotations

import argparse
import fnmatch
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults import sandbox

_EXAMPLE = "Example: .venv/bin/python -m tests.faults --only 'memory/*/cold' --only 'router/kill/*'"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__, epilog=_EXAMPLE)
    parser.add_argument("--long", action="store_true", help="all cells; otherwise each fault once per role, in a state that --rotation chooses")
    parser.add_argument("--rotation", type=int, default=0, metavar="N", help="which state each fault meets in the short form (0 to 4)")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="cells ROLE/FAULT/STATE that match, of all there are")
    parser.add_argument("--list", action="store_true", help="print the cells and end")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn by chance: which frames a bad cable corrupts")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write results there")
    parser.add_argument("--keep", action="store_true", help="keep the hosts' folders with logs though all went well")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    why = sandbox.unavailable()
    if why is not None:
        from tests.faults.report import write_junit

        print(f"skipped: {why}")
        if arguments.junit:
            write_junit(arguments.junit, [], why)
        return 0
    sandbox.enter(sys.argv[1:])

    from tests.faults.cells import all_cells, rotated
    from tests.faults.runner import run_cells

    cells = all_cells() if arguments.long or arguments.only else rotated(arguments.rotation)
    if arguments.only:
        cells = [cell for cell in cells if any(fnmatch.fnmatch(str(cell), pattern) for pattern in arguments.only)]
        if not cells:
            print(f"--only {' '.join(arguments.only)}: no cell matches; --list shows them", file=sys.stderr)
            return 2
    if arguments.list:
        print("\n".join(str(cell) for cell in cells))
        return 0
    directory = Path(tempfile.mkdtemp(prefix="cenote-faults-"))
    well = False
    try:
        well = run_cells(cells, directory, arguments.seed, arguments.junit)
    except KeyboardInterrupt:
        print("interrupted; everything it started ends with it", file=sys.stderr)
        return 130
    finally:
        if well and not arguments.keep:
            shutil.rmtree(directory, ignore_errors=True)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())

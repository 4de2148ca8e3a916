"""The tool `cenote`. Each command's work lives in cenote/commands, app.py names them; this file turns errors into exit codes.

0 ok, 1 failed, 2 usage or settings, 3 unreachable, 4 not found, 5 integrity, 6 refused, 7 not allowed, 124 deadline, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys

from cenote import interrupts
from cenote.errors import Error, from_os


def _wants_json(arguments: list[str]) -> bool:
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    return any(a in ("-ojson", "--output=json") or (a in ("-o", "--output") and b == "json") for a, b in pairs)


def _report(error: Error, *, as_json: bool) -> int:
    if as_json:
        text = json.dumps({"error": {"code": error.code, "message": error.message, "exit_code": error.exit_code}})
    else:
        mark = "\x1b[1;31merror\x1b[0m" if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else "error"
        text = f"{mark}: {error.message}"
    with contextlib.suppress(OSError):  # A full disk behind 2> must not change the exit code.
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    return error.exit_code


def _interrupted() -> int:
    sys.stderr.write("\ninterrupted\n")
    return 130


def _plain_status(arguments: list[str]) -> bool:
    """`status` with nothing but its options in full is answered at once, without the parser. False: left to the parser, errors too."""
    options = {"-o": "output", "--output": "output", "-c": "cluster", "--cluster": "cluster", "--certificates": "certificates"}
    names, values = arguments[1::2], arguments[2::2]
    given = {options.get(name, ""): value for name, value in zip(names, values, strict=False)}
    if arguments[:1] != ["status"] or len(names) != len(values) or "" in given or given.get("output", "table") not in ("table", "json"):
        return False
    from cenote.status import show

    show(given.get("cluster"), given.get("certificates"), as_json=given.get("output") == "json")
    return True


def _parse_and_run(arguments: list[str]) -> int:
    import typer

    from cenote.app import app

    try:
        result = typer.main.get_command(app).main(arguments, prog_name="cenote", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # The parser would make an exit code of 1 of it.
            raise end.__context__ from None
        raise
    if result == 130:  # The parser keeps a KeyboardInterrupt to itself.
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def run(arguments: list[str]) -> int:
    """The exit code; all that goes wrong has been said on standard error."""
    try:
        result = 0 if _plain_status(arguments) else _parse_and_run(arguments)
        sys.stdout.flush()
        return result
    except Error as error:
        if interrupts.asked():  # A library swallowed the interrupt and failed for it.
            return _interrupted()
        return _report(error, as_json=_wants_json(arguments))
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # `cenote logs | head`: nobody reads any more.
        return 0
    except OSError as error:
        return _report(from_os(error), as_json=_wants_json(arguments))
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # The parser's own usage errors.
            error.show()
            return int(error.exit_code)
        if interrupts.asked():
            return _interrupted()
        raise


def _open_standard_streams() -> None:
    """`cenote status >&-` closes them, and the next file that is opened would take their place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # For as long as the process lives.


def _drop_what_cannot_be_written() -> None:
    """Python flushes once more as it ends, and would end with 120 for what was reported already."""
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def main() -> None:
    _open_standard_streams()
    interrupts.install()
    code = run(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # All is done and said: Ctrl-C while Python ends must not change the exit code.
    if code == 130:  # Python ends itself with the signal, not with this code, if an interrupt once passed through compiled text, as imports have it.
        sys.stderr.flush()
        os._exit(code)
    _drop_what_cannot_be_written()
    sys.exit(code)


if __name__ == "__main__":
    main()

"""The one exception of the package, and the exit codes that people's scripts may rely on."""

from __future__ import annotations

import errno

# absl::StatusCode by name -> exit code; the same table as source/base/status.h.
EXIT_CODES = {
    "cancelled": 130,
    "unknown": 1,
    "invalid_argument": 2,
    "deadline_exceeded": 124,
    "not_found": 4,
    "already_exists": 6,
    "permission_denied": 7,
    "resource_exhausted": 6,
    "failed_precondition": 6,
    "aborted": 1,
    "out_of_range": 2,
    "unimplemented": 1,
    "internal": 1,
    "unavailable": 3,
    "data_loss": 5,
    "unauthenticated": 7,
}


class Error(Exception):
    """What went wrong: `code` (absl's name in lower case), `message` (fit for people), `exit_code` (of the tool)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def exit_code(self) -> int:
        return EXIT_CODES.get(self.code, 1)

    def __reduce__(self) -> tuple[type[Error], tuple[str, str]]:
        return (type(self), (self.code, self.message))


_NO_SUCH_USE = (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ, errno.EEXIST)  # Of a name that was given.
_BY_ERRNO = {errno.ENOENT: "not_found", errno.EACCES: "permission_denied", errno.EPERM: "permission_denied", errno.EROFS: "permission_denied"}
_REMEDIES = {
    errno.ENOSPC: "; free some space",
    errno.EDQUOT: "; free some space",
    errno.EACCES: "; change its owner or permissions, or name another place",
    errno.EROFS: "; name another place",
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def from_os(error: OSError) -> Error:
    """A file or the system said no: which file, what, and what to do."""
    number = error.errno or 0
    code = "resource_exhausted" if number in _FULL else "invalid_argument" if number in _NO_SUCH_USE else _BY_ERRNO.get(number, "unknown")
    place = f"{error.filename}: " if error.filename else ""
    return Error(code, f"{place}{error.strerror or error}{_REMEDIES.get(number, '')}")


def usage(message: str) -> Error:
    return Error("invalid_argument", message)


def refused(message: str) -> Error:
    return Error("failed_precondition", message)

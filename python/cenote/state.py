"""Where clusters keep their state on this machine, and how a cluster is found.

`cenote up` writes $XDG_STATE_HOME/cenote/NAME/cluster.json (0600); it names the controller and the state directory, which is
the same directory unless the settings say otherwise.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from cenote.errors import Error, usage

CLUSTER_FILE = "cluster.json"


@dataclass(frozen=True)
class ClusterState:
    """A cluster that `cenote up` started from this account. Paths are absolute."""

    name: str
    controller: str  # host:port
    directory: Path
    settings_file: Path  # The file it was started with; a copy lies in directory/settings.toml.
    settings_digest: str  # SHA-256 of the settings in effect.
    build: Path
    drain_timeout_s: float  # Of each stage of stopping.
    routers: list[str]  # host:port of those with a fixed port; for when the controller is down.

    @property
    def certificates(self) -> Path:
        return self.directory / "certificates"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"


@dataclass(frozen=True)
class Reach:
    """What it takes to speak to a cluster."""

    controller: str
    certificates: Path
    state: ClusterState | None  # None: given as HOST:PORT.


def state_home() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base) / "cenote"


def write(state: ClusterState) -> None:
    text = json.dumps({"version": 1} | {key: str(value) if isinstance(value, Path) else value for key, value in asdict(state).items()}, indent=2) + "\n"
    for directory in dict.fromkeys([state_home() / state.name, state.directory]):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = directory / (CLUSTER_FILE + ".part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        part.replace(directory / CLUSTER_FILE)


def forget(state: ClusterState) -> None:
    """After `down`: the cluster is not found by default any more; its catalogue, logs and keys stay."""
    for directory in (state_home() / state.name, state.directory):
        (directory / CLUSTER_FILE).unlink(missing_ok=True)


def read(directory: Path) -> ClusterState | None:
    path = directory / CLUSTER_FILE
    try:
        raw = json.loads(path.read_text())
        if raw["version"] != 1:
            raise Error("failed_precondition", f"{path}: version {raw['version']}, this cenote reads 1; use the cenote that wrote it")
        return ClusterState(
            name=raw["name"],
            controller=raw["controller"],
            directory=Path(raw["directory"]),
            settings_file=Path(raw["settings_file"]),
            settings_digest=raw["settings_digest"],
            build=Path(raw["build"]),
            drain_timeout_s=float(raw["drain_timeout_s"]),
            routers=[str(router) for router in raw["routers"]],
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise Error("failed_precondition", f"{path} is damaged ({error}); remove it and run `cenote up`") from error


def known() -> list[ClusterState]:
    home = state_home()
    if not home.is_dir():
        return []
    states = (read(directory) for directory in sorted(home.iterdir()) if directory.is_dir())
    return [state for state in states if state is not None]


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(colon and host and port.isdigit())


def _check_named(cluster: str | None) -> None:
    """An empty name is a script's unset variable: it must not mean whichever cluster is up."""
    if cluster is not None and not cluster.strip():
        raise usage("--cluster is empty: give NAME, DIR or HOST:PORT, or leave it out for the only cluster that is up here")


def find(cluster: str | None) -> ClusterState:
    """A cluster of this machine by name or directory; None: $CENOTE_CLUSTER, else the only one."""
    _check_named(cluster)
    wanted = cluster or os.environ.get("CENOTE_CLUSTER")
    if wanted is None:
        states = known()
        if not states:
            raise Error("unavailable", f"no cluster is up (nothing in {state_home()}); start one with `cenote up`, or name one by --cluster HOST:PORT")
        if len(states) > 1:
            names = ", ".join(state.name for state in states)
            raise usage(f"{len(states)} clusters are up: {names}; choose one with --cluster NAME")
        return states[0]
    directory = Path(wanted) if os.sep in wanted else state_home() / wanted
    state = read(directory)
    if state is None:
        names = ", ".join(state.name for state in known()) or "none"
        raise Error("unavailable", f"no cluster {wanted!r} is up here (up: {names}); start it with `cenote up`, or give --cluster HOST:PORT")
    return state


def reach(cluster: str | None, certificates: str | None = None) -> Reach:
    """By state file, or by HOST:PORT with a directory that holds ca.crt, client.crt and client.key."""
    _check_named(cluster)
    wanted = cluster or os.environ.get("CENOTE_CLUSTER")
    if wanted is None or not _is_address(wanted):
        state = find(wanted)
        return Reach(state.controller, Path(certificates) if certificates else state.certificates, state)
    if certificates is None:
        local = [state for state in known() if state.controller == wanted]
        if local:
            return Reach(wanted, local[0].certificates, local[0])
        raise usage(f"--cluster {wanted} needs --certificates DIR (ca.crt, client.crt and client.key of that cluster)")
    directory = Path(certificates)
    for name in ("ca.crt", "client.crt", "client.key"):
        if not (directory / name).is_file():
            raise Error("not_found", f"{directory / name} is not there; --certificates wants a directory with ca.crt, client.crt and client.key")
    return Reach(wanted, directory, None)

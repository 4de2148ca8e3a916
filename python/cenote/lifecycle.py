"""`cenote up` and `cenote down`: a whole cluster on this machine, all of it or nothing of it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cenote import certificates, native, processes, state
from cenote.errors import Error, refused, usage
from cenote.state import ClusterState

SUPERVISOR_FILE = "supervisor.json"
_LOCK_FILE = "supervisor.lock"
_KILL_WAIT_S = 5.0
# The supervisor stops routers, agents, memory servers and the controller one after another, each within drain_timeout.
_STOP_STAGES = 4
_DOWN_MARGIN_S = 20.0
# A daemon that ended this often while the cluster comes up will not come up by itself.
_RESTARTS_MAX = 3

# Called with a sentence on what is going on now.
Report = Callable[[str], None]


@dataclass(frozen=True)
class UpResult:
    state: ClusterState
    status: dict[str, Any]  # Cluster.status()
    already_up: bool
    seconds: float


@dataclass(frozen=True)
class DownResult:
    name: str | None  # None: nothing was up.
    killed: list[str]  # Daemons that did not stop by themselves.
    seconds: float


def read_settings(file: Path, overrides: list[str]) -> dict[str, Any]:
    """Resolved settings as the daemons see them: file < CENOTE_* < overrides ("path=value")."""
    if file.exists() and not file.is_file():
        raise usage(f"settings file {file} is not a file; the one to begin with is settings/local.toml")
    if not file.exists():
        raise Error("not_found", f"settings file {file} is not there; the one to begin with is settings/local.toml")
    return json.loads(native.load().load_settings(str(file), overrides))


def default_settings_file() -> Path:
    here = Path("settings/local.toml")
    return here if here.is_file() else native.SOURCE_ROOT / "settings" / "local.toml"


def expected_daemons(settings: dict[str, Any]) -> list[str]:
    """The controller reports as "controller"; executors come with their agents."""
    return ["controller"] + [entry["name"] for kind in ("router", "memory", "agent") for entry in settings[kind]]


def expected_executors(settings: dict[str, Any]) -> list[str]:
    return [f"{agent['name']}/{device['name']}" for agent in settings["agent"] for device in agent["device"]]


def _lock_held(path: Path) -> bool:
    try:
        with open(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def supervisor(directory: Path) -> dict[str, Any] | None:
    """What the living supervisor of this directory wrote last: pid and children. None: there is none."""
    if not _lock_held(directory / _LOCK_FILE):
        return None
    try:
        return json.loads((directory / SUPERVISOR_FILE).read_text())
    except (OSError, ValueError):
        return {"pid": 0, "children": []}  # It has just begun.


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """One `up` or `down` at a time for a state directory."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    with open(directory / "up.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise refused(f"another `cenote up` or `cenote down` is at work in {directory}; wait for it") from None
        yield


def ports_wanted(settings: dict[str, Any]) -> list[tuple[str, str, int]]:
    """(daemon, host, port) of everything that listens; port 0: chosen by the system."""
    wanted: list[tuple[str, str, int]] = [("controller", settings["controller"]["host"], settings["controller"]["port"])]
    for router in settings["router"]:
        wanted.append((router["name"], router["host"], router["port"]))
    for server in settings["memory"]:
        wanted.append((server["name"], server["host"], server["port"]))
        wanted.append((f"{server['name']} (fabric)", server["host"], server["fabric_port"]))
    for agent in settings["agent"]:
        wanted += [(f"{agent['name']}/{device['name']}", agent["host"], device["port"]) for device in agent["device"]]
    return wanted


def _check_ports(settings: dict[str, Any]) -> None:
    for daemon, host, port in ports_wanted(settings):
        try:
            taken = port and processes.port_taken(host, port)
        except Error as error:
            raise Error(error.code, f"{daemon}: {error}") from error
        if taken:
            raise refused(
                f"port {host}:{port} of {daemon} is taken by {processes.listener(port)}; stop that, or choose another port in the settings"
            )


def _daemon_processes(directory: Path) -> list[tuple[int, int]]:
    """(pid, start time) of every cenoted that works in this state directory, supervisor first."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            words = processes.command(int(entry)).split(" ")
            if os.path.basename(words[0]) == "cenoted" and str(directory) in words:
                started = processes.start_time(int(entry))
                if started is not None:
                    found.append((started, int(entry)))
    return [(pid, started) for started, pid in sorted(found)]


def _sweep(directory: Path) -> list[str]:
    """Ends whatever daemon of this directory is left, with SIGKILL at last; returns whom it had to kill."""
    left = _daemon_processes(directory)
    killed = []
    for pid, started in left:
        name = processes.command(pid)
        if not processes.stop(pid, started, _KILL_WAIT_S):
            processes.kill(pid, started)
            processes.wait_gone(pid, started, _KILL_WAIT_S)
            killed.append(name)
    for left_over in (directory / "run").glob("*"):
        if left_over.is_dir():  # Where an agent mounted its cache, in a namespace that ended with it.
            shutil.rmtree(left_over, ignore_errors=True)
        else:
            left_over.unlink(missing_ok=True)
    return killed


def _environment() -> dict[str, str]:
    """What the daemons inherit. Spinning OpenMP threads collapse as soon as anything shares their core."""
    return {"OMP_WAIT_POLICY": "PASSIVE"} | dict(os.environ)


def _spawn(directory: Path, overrides: list[str]) -> subprocess.Popen[bytes]:
    (directory / "logs").mkdir(mode=0o700, exist_ok=True)
    (directory / "run").mkdir(mode=0o700, exist_ok=True)
    command = [str(native.program("cenoted")), "supervisor", "--state", str(directory), "--name", "supervisor"]
    command += ["--settings", str(directory / "settings.toml")]
    for override in overrides:
        command += ["--set", override]
    with open(directory / "logs" / "supervisor.log", "ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=_environment(), cwd="/"
        )


def missing(settings: dict[str, Any], status: dict[str, Any]) -> list[str]:
    """Daemons and executors of the settings that have not reported yet."""
    up = {member["name"] for member in status["members"]}
    ready = {
        executor["name"]
        for member in status["members"]
        for executor in member["executors"]
        if executor["incarnation"] and executor["address"]
    }
    return [name for name in expected_daemons(settings) if name not in up] + [
        name for name in expected_executors(settings) if name not in ready
    ]


def _explain(directory: Path, names: list[str]) -> str:
    lines = []
    for name in names[:3]:
        log = directory / "logs" / (name.replace("/", "-") + ".log")
        text = [f"    {line}" for line in processes.tail(log, 5)]
        lines += [f"  {name}: last lines of {log}", *(text or ["    (empty)"])]
    return "\n".join(lines)


def _does_not_start(directory: Path, name: str, how: str) -> Error:
    """The daemon's own last words and exit code where it had some, as it has for whatever of its settings it cannot have here."""
    log = directory / "logs" / f"{name.replace('/', '-')}.log"
    last = [line.partition(f" {name}: ")[2] for line in processes.tail(log, 20) if line.startswith("cenoted ") and f" {name}: " in line]
    codes = {"exit 2": "invalid_argument", "exit 4": "not_found", "exit 6": "failed_precondition", "exit 7": "permission_denied"}
    if last and how in codes:
        return Error(codes[how], f"{name} does not start: {last[-1]} (log: {log})")
    return Error("internal", f"{name} does not stay up ({how}, {_RESTARTS_MAX} restarts)\n{_explain(directory, [name])}")


def _check_executors(directory: Path, status: dict[str, Any]) -> None:
    """Raises for one that its agent starts over and over; what its settings ask for is not here."""
    for executor in (executor for member in status["members"] for executor in member["executors"]):
        if executor["restarts"] >= _RESTARTS_MAX and not executor["incarnation"]:
            raise _does_not_start(directory, executor["name"], "exit 6")


def _wait_ready(
    new: ClusterState, settings: dict[str, Any], process: subprocess.Popen[bytes] | None, timeout_s: float, report: Report
) -> dict[str, Any]:
    from cenote.cluster import Cluster

    deadline = time.monotonic() + timeout_s
    absent = expected_daemons(settings)
    with Cluster.connect(new.name if process is None else str(new.directory)) as cluster:
        while True:
            if process is not None and process.poll() is not None:
                lines = "\n".join(f"  {line}" for line in processes.tail(new.logs / "supervisor.log", 8))
                code = "invalid_argument" if process.returncode == 2 else "failed_precondition" if process.returncode == 6 else "internal"
                raise Error(code, f"the supervisor ended with exit code {process.returncode}:\n{lines}")
            ended = [child for child in (supervisor(new.directory) or {"children": []})["children"] if child["restarts"] >= _RESTARTS_MAX]
            if ended and not ended[0]["pid"]:
                name, how = ended[0]["name"], ended[0]["last_exit"]
                raise _does_not_start(new.directory, name, how)
            try:
                status = cluster.status(timeout_s=2.0)
                absent = missing(settings, status)
                if not absent:
                    return status
                if process is not None:
                    _check_executors(new.directory, status)
            except Error as error:
                if error.code not in ("unavailable", "deadline_exceeded"):
                    raise
            if time.monotonic() > deadline:
                raise Error(
                    "deadline_exceeded",
                    f"after {timeout_s:.0f} s these have not reported: {', '.join(absent)}\n{_explain(new.directory, absent)}",
                )
            report("waiting for " + ", ".join(absent[:4]) + (" ..." if len(absent) > 4 else ""))
            time.sleep(0.05)


def up(file: Path, overrides: list[str], *, timeout_s: float = 60.0, report: Report = lambda _: None) -> UpResult:
    """Starts the cluster of a settings file and returns when every daemon and executor has reported.

    Running already with the same settings: says so. With others: failed_precondition. Whatever fails, nothing is left running.
    """
    begun = time.monotonic()
    file = file.resolve()
    settings = read_settings(file, overrides)
    name, directory = settings["cluster"]["name"], Path(settings["cluster"]["state_directory"])
    text = json.dumps(settings, sort_keys=True)
    controller = f"{settings['controller']['host']}:{settings['controller']['port']}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    drain_s = float(settings["limits"]["drain_timeout"])
    routers = [f"{router['host']}:{router['port']}" for router in settings["router"] if router["port"]]
    new = ClusterState(name, controller, directory, file, digest, native.build_directory(), drain_s, routers)
    with exclusive(directory):
        present = state.read(directory)
        if present is not None and supervisor(directory) is not None:
            if present.settings_digest != new.settings_digest:
                raise refused(
                    f"cluster '{name}' is up with other settings ({present.settings_file}); "
                    "run `cenote down` first, or give this one another cluster.name and other ports"
                )
            status = _wait_ready(present, settings, None, timeout_s, report)
            return UpResult(present, status, True, time.monotonic() - begun)
        namesake = state.read(state.state_home() / name)
        if namesake is not None and namesake.directory != directory and supervisor(namesake.directory) is not None:
            raise refused(
                f"cluster '{name}' is up already, with its state in {namesake.directory}; "
                "run `cenote down` first, or give this one another cluster.name and other ports"
            )
        _sweep(directory)  # What a killed supervisor may have left.
        _check_ports(settings)
        certificates.ensure(directory / "certificates", name, _hosts(settings))
        shutil.copyfile(file, directory / "settings.toml")
        state.write(new)
        process = _spawn(directory, overrides)
        try:
            status = _wait_ready(new, settings, process, timeout_s, report)
        except BaseException:
            report("it did not come up: stopping what was started")
            _stop(new, process)
            state.forget(new)
            raise
        return UpResult(new, status, False, time.monotonic() - begun)


def _hosts(settings: dict[str, Any]) -> list[str]:
    entries = [settings["controller"], *settings["router"], *settings["memory"], *settings["agent"]]
    return list(dict.fromkeys(entry["host"] for entry in entries))


def _stop(stopped: ClusterState, process: subprocess.Popen[bytes] | None = None) -> list[str]:
    """Ends supervisor and daemons; returns the names of those that had to be killed."""
    found = supervisor(stopped.directory)
    pid = process.pid if process is not None else found["pid"] if found is not None else 0
    started = processes.start_time(pid) if pid else None
    if started is not None and process is not None and process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_STAGES * stopped.drain_timeout_s + _DOWN_MARGIN_S)
    elif started is not None:
        processes.stop(pid, started, _STOP_STAGES * stopped.drain_timeout_s + _DOWN_MARGIN_S)
    killed = _sweep(stopped.directory)
    (stopped.directory / SUPERVISOR_FILE).unlink(missing_ok=True)
    return killed


def down(cluster: str | None, *, report: Report = lambda _: None) -> DownResult:
    """Stops a cluster of this machine and removes its processes, sockets and shared memory. Its catalogue, logs and keys stay."""
    begun = time.monotonic()
    try:
        present = state.find(cluster)
    except Error as error:
        if error.code != "unavailable":
            raise
        return DownResult(None, [], 0.0)
    with exclusive(present.directory):
        report(f"stopping cluster '{present.name}'")
        killed = _stop(present)
        state.forget(present)
    return DownResult(present.name, killed, time.monotonic() - begun)

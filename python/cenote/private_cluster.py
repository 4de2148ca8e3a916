"""A cluster for one command: free ports, a state directory of its own, gone with the command. For the quick start, benchmarks, tests."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cenote import lifecycle, processes, state
from cenote.cluster import Cluster
from cenote.lifecycle import Report


@dataclass(frozen=True)
class PrivateCluster:
    cluster: Cluster
    directory: Path
    settings: dict[str, Any]
    started_s: float


def port_overrides(settings: dict[str, Any]) -> list[str]:
    """--set arguments that give every daemon of these settings a free port. Executors choose their own."""
    keys = ["controller.port"]
    keys += [f"router[{i}].port" for i in range(len(settings["router"]))]
    for i in range(len(settings["memory"])):
        keys += [f"memory[{i}].port", f"memory[{i}].fabric_port"]
    return [f"{key}={port}" for key, port in zip(keys, processes.free_ports(len(keys)), strict=True)]


@contextlib.contextmanager
def private_cluster(
    file: Path | None = None, overrides: Sequence[str] = (), *, name: str = "private", timeout_s: float = 120.0,
    report: Report = lambda _: None, keep: bool = False,
) -> Iterator[PrivateCluster]:  # fmt: skip
    """The cluster of a settings file (default: settings/local.toml), up inside the `with`. Its state directory, logs included, is removed at
    the end unless `keep`, or something went wrong: then the error says where it is."""
    file = file or lifecycle.default_settings_file()
    directory = Path(tempfile.mkdtemp(prefix=f"cenote-{name}-"))
    everything = [f"cluster.name={directory.name}", f"cluster.state_directory={directory}", *overrides]
    everything += port_overrides(lifecycle.read_settings(file, everything))
    try:
        result = lifecycle.up(file, everything, timeout_s=timeout_s, report=report)
        try:
            with Cluster.connect(str(directory)) as cluster:
                yield PrivateCluster(cluster, directory, lifecycle.read_settings(file, everything), result.seconds)
        finally:
            lifecycle.down(str(directory))
    except Exception as error:
        error.add_note(f"logs: {directory}/logs")
        raise
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    else:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    finally:
        shutil.rmtree(state.state_home() / directory.name, ignore_errors=True)

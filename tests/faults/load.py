"""What goes on while a fault strikes: nothing, requests to a resident model, cold requests, deploys, or the drain of a daemon.

Every load notes what was lost or wrong in `broken`; what a caller has to retry himself while a daemon is away (a change of the
catalogue that was refused as unavailable) is retried until its deadline, as the tool's user would, and counted.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from cenote import temperatures
from cenote.cluster import Cluster
from cenote.errors import Error
from tests.faults.hosts import Hosts
from tests.faults.models import Case, make_case

REQUEST_S = 30.0
CHANGE_S = 45.0
_PAUSE_S = 0.01
# resource_exhausted: a full disk refuses until there is room. data_loss: a deploy whose bytes came changed too often leaves nothing.
_AWAY = ("unavailable", "deadline_exceeded", "aborted", "resource_exhausted", "data_loss")


class Load:
    def __init__(self) -> None:
        self.broken: list[str] = []
        self.answered = 0
        self.deployed = 0
        self.retried = 0
        self.slowest_s = 0.0  # Of the requests.
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, work: Callable[[], None], threads: int) -> None:
        for _ in range(threads):
            self._threads.append(threading.Thread(target=self._repeat, args=(work,), daemon=True))
            self._threads[-1].start()

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._stop.wait(_PAUSE_S):
            try:
                work()
            except Exception as error:
                self.say(f"{type(error).__name__}: {error}")
                return

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(REQUEST_S + CHANGE_S)
            if thread.is_alive():
                self.say("a request or change neither ended nor failed by its deadline")

    def say(self, what: str) -> None:
        with self._lock:
            self.broken.append(what)

    def ask(self, cluster: Cluster, case: Case) -> None:
        begun = time.monotonic()
        try:
            got = cluster.infer(case.name, case.x, deadline_s=REQUEST_S)
        except Error as error:
            self.say(f"a request to '{case.name}' was lost: {error.code}: {error}")
            return
        if wrong := case.wrong(got):
            self.say(wrong)
        took = time.monotonic() - begun
        with self._lock:
            self.answered += 1
            self.slowest_s = max(self.slowest_s, took)

    def change(self, what: str, do: Callable[[], object], already: tuple[str, ...] = ()) -> bool:
        """Retries while a daemon is away or has no room. `already`: codes that say an earlier try had succeeded without our hearing of it."""
        end = time.monotonic() + CHANGE_S
        tried = False
        while True:
            try:
                do()
                return True
            except Error as error:
                if tried and error.code in already:
                    return True
                if error.code not in _AWAY or time.monotonic() > end:
                    self.say(f"{what}: {error.code}: {error}")
                    return False
                tried = True
                with self._lock:
                    self.retried += 1
                time.sleep(0.1)


class Workload:
    """The models of a run: one that stays resident, one that is too large to come quickly, and new ones for deploys."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.resident = make_case("resident", layers=2, width=256, seed=1)
        self.cold = make_case("cold", layers=10, width=1024, seed=2)  # 40 MiB: 0.4 s over a link of 0.1 GB/s.
        self._next = 3
        for case in (self.resident, self.cold):
            hosts.cluster.deploy_exported(case.exported, name=case.name)
            temperatures.wait_ready(hosts.cluster, case.name)  # On both agents, from both servers: what is held then is what is held at most.

    def cases(self) -> list[Case]:
        return [self.resident, self.cold]

    @contextlib.contextmanager
    def running(self, state: str, target: str) -> Iterator[Load]:
        load = Load()
        begin = {
            "idle": lambda: None,
            "resident": lambda: load.start(lambda: load.ask(self.hosts.cluster, self.resident), 3),
            "cold": lambda: load.start(lambda: self._ask_cold(load), 1),
            "deploy": lambda: load.start(lambda: self._deploy(load), 1),
            "drain": lambda: self._drain(load, target),
        }[state]
        begin()
        try:
            yield load
        finally:
            load.stop()

    def _ask_cold(self, load: Load) -> None:
        load.change("evict 'cold'", lambda: self.hosts.cluster.evict("cold"))
        load.ask(self.hosts.cluster, self.cold)

    def _deploy(self, load: Load) -> None:
        seed = self._next
        self._next += 1
        case = make_case(f"new{seed}", layers=6, width=512, seed=seed)
        cluster = self.hosts.cluster
        if not load.change(f"deploy '{case.name}'", lambda: cluster.deploy_exported(case.exported, name=case.name)):
            return
        load.deployed += 1
        load.ask(cluster, case)
        load.change(f"remove '{case.name}'", lambda: cluster.remove(case.name), already=("not_found",))

    def _drain(self, load: Load, target: str) -> None:
        load.start(lambda: load.ask(self.hosts.cluster, self.resident), 2)
        load.change(f"drain {target}", lambda: self.hosts.cluster.drain(target.partition("/")[0]))

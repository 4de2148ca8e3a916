#!/usr/bin/env python3
"""A machine with an RDMA device, made of nothing: a QEMU guest with Debian's kernel and rdma_rxe, whose root is this machine's.

The guest sees the root file system of this machine read-only, with a layer in its memory above; what a command writes to /out comes back.
It boots in about ten seconds without hardware virtualisation and is slow: for correctness and failures, not for speed.

By hand:  tests/verbs/guest.py [--seconds N] [--memory MIB] COMMAND [ARGUMENT...]
runs COMMAND, built for this machine, in a guest: `ibv_devices`, say, or a test with CENOTE_TEST_VERBS_ADDRESS set to 10.77.0.1.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ADDRESS = "10.77.0.{}"  # By the guest's number.
_CPUS_MAX = 2
_STOP_WAIT_S = 10.0


class Unavailable(Exception):
    """No guest can be had on this machine; the text says why and what would help."""


class GuestError(Exception):
    """The guest did not boot, or did not end in time."""


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "cenote" / "verbs-guest"


def image(folder: Path | None = None) -> Path:
    """Kernel and initramfs, made if need be: the only step that may use the network. Raises Unavailable."""
    if platform.machine() != "x86_64":
        raise Unavailable(f"this machine is a {platform.machine()}; the guest runs its programs, and is an x86_64")
    if shutil.which("qemu-system-x86_64") is None:
        raise Unavailable("qemu-system-x86_64 is not installed (third_party/install.sh installs it)")
    folder = folder or cache_folder()
    made = subprocess.run([HERE / "image.sh", folder], capture_output=True, text=True, timeout=900)
    if made.returncode != 0:
        why = (made.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unavailable(f"no kernel for the guest: {why}")
    return folder / made.stdout.strip()


@dataclass
class Guest:
    """One machine. start(), then wait() or kill(); `folder` is its /out."""

    folder: Path
    number: int = 1  # Its address is ADDRESS of this.
    memory_mib: int = 2048
    seconds: float = 300.0  # It is ended then, whatever it does.
    link: tuple[str, Path] | None = None  # ("server" | "client", socket): a network of two guests. None: alone.
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    _begun: float = 0.0

    @property
    def address(self) -> str:
        return ADDRESS.format(self.number)

    def start(self, made: Path, command: Sequence[str], directory: Path) -> None:
        """Boots and runs `command` in `directory`, as root."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "code").unlink(missing_ok=True)
        (self.folder / "output").write_text("")
        (self.folder / "address").write_text(f"ADDRESS={self.address}\n")
        lines = ["export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root"]
        lines += [f"export {name}={shlex.quote(value)}" for name, value in self.environment.items()]
        lines += ["ulimit -l unlimited", f"cd {shlex.quote(str(directory))}", shlex.join(command)]
        (self.folder / "command").write_text("\n".join(lines) + "\n")
        with open(self.folder / "qemu.log", "wb") as log:
            # It dies with us, however we die.
            arguments = ["setpriv", "--pdeathsig", "KILL", *self._qemu(made)]
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._begun = time.monotonic()

    def _qemu(self, made: Path) -> list[str]:
        accelerator = os.environ.get("CENOTE_GUEST_ACCELERATOR", "tcg")
        arguments = ["qemu-system-x86_64", "-accel", accelerator + (",thread=multi" if accelerator == "tcg" else ""), "-cpu", "max"]
        arguments += ["-m", str(self.memory_mib), "-smp", str(min(_CPUS_MAX, os.cpu_count() or 1)), "-display", "none", "-no-reboot", "-nodefaults"]
        arguments += ["-kernel", str(made / "vmlinuz"), "-initrd", str(made / "initrd")]
        arguments += ["-append", "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable", "-serial", f"file:{self.folder}/kernel.log"]
        arguments += ["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"]
        arguments += ["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]
        arguments += ["-fsdev", f"local,id=out,path={self.folder},security_model=none", "-device", "virtio-9p-pci,fsdev=out,mount_tag=out"]
        if self.link is None:
            return [*arguments, "-nic", "none"]
        role, socket = self.link
        arguments += ["-netdev", f"stream,id=net,server={'on' if role == 'server' else 'off'},addr.type=unix,addr.path={socket}"]
        return [*arguments, "-device", f"virtio-net-pci,netdev=net,mac=52:54:00:00:77:{self.number:02x},host_mtu=4200,romfile="]

    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait_for(self, text: str, seconds: float) -> None:
        """Until the output has `text`."""
        deadline = time.monotonic() + seconds
        while text not in self.output():
            if not self.running():
                raise GuestError(f"the guest ended without saying {text!r}:\n{self.explain()}")
            if time.monotonic() > deadline:
                raise GuestError(f"after {seconds:.0f} s the guest has not said {text!r}:\n{self.explain()}")
            time.sleep(0.1)

    def wait(self) -> int:
        """The command's exit code."""
        assert self.process is not None, "start() comes first"
        try:
            self.process.wait(max(0.0, self._begun + self.seconds - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
            raise GuestError(f"the guest was ended after {self.seconds:.0f} s:\n{self.explain()}") from None
        try:
            return int((self.folder / "code").read_text())
        except (OSError, ValueError):
            raise GuestError(f"the guest ended without an exit code:\n{self.explain()}") from None

    def kill(self) -> None:
        """As a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(_STOP_WAIT_S)

    def explain(self) -> str:
        text = []
        for name, lines in (("output", 40), ("qemu.log", 10), ("kernel.log", 15)):
            path = self.folder / name
            if path.exists() and path.stat().st_size:
                text += [f"--- {name}", *path.read_text(errors="replace").splitlines()[-lines:]]
        return "\n".join(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long the guest may live")
    parser.add_argument("--memory", type=int, default=2048, metavar="MIB", help="of the guest")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.command:
        parser.error("which command?")
    environment = {name: value for name, value in os.environ.items() if name.startswith(("CENOTE_", "FI_", "GTEST_", "PYTHON"))}
    environment.setdefault("CENOTE_TEST_VERBS_ADDRESS", ADDRESS.format(1))
    with tempfile.TemporaryDirectory(prefix="verbs-guest-") as folder:
        guest = Guest(Path(folder), memory_mib=options.memory, seconds=options.seconds, environment=environment)
        try:
            guest.start(image(), options.command, Path.cwd())
            code = guest.wait()
        except (Unavailable, GuestError) as error:
            print(error, file=sys.stderr)
            return 125
        finally:
            guest.kill()
        print(guest.output(), end="")
        return code


if __name__ == "__main__":
    sys.exit(main())

"""Goal: where no guest can be had, its tests are left out with a reason that helps. Method: machines that lack something."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from verbs.guest import Unavailable, image


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with next to nothing in it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("bash", "cat", "cut", "dirname", "env", "flock", "mkdir", "sha256sum", "ls"):
        (folder / tool).symlink_to(shutil.which(tool) or pytest.skip(f"{tool} is not here"))
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_without_qemu_it_says_what_to_install(bare: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"qemu-system-x86_64 is not installed \(third_party/install.sh"):
        image(tmp_path / "cache")


def test_without_the_means_to_make_a_kernel_it_names_what_is_missing(bare: Path, tmp_path: Path) -> None:
    (bare / "qemu-system-x86_64").symlink_to("ls")
    with pytest.raises(Unavailable, match=r"no kernel for the guest: 'apt-get' is not installed"):
        image(tmp_path / "cache")

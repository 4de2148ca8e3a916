"""The guest's kernel, and where the programs are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from verbs.guest import Unavailable, image

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("CENOTE_BUILD", ROOT / "build" / "dev"))


@pytest.fixture(scope="session")
def made() -> Path:
    """Kernel and initramfs. Where none can be had every test here is left out, and says why."""
    try:
        return image()
    except Unavailable as error:
        pytest.skip(f"verbs: {error}")


def program(name: str) -> Path:
    return BUILD / "bin" / name

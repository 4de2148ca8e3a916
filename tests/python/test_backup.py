"""Goal: a backup is put back only where it belongs, only whole, and what it replaces is kept. Method: stopped clusters' directories."""

from __future__ import annotations

from pathlib import Path

import pytest

from cenote import catalogue, lifecycle, native
from cenote.errors import Error


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    directory = tmp_path / "state" / "cenote" / "local"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    file = tmp_path / "catalogue.backup"
    data, _ = native.load().make_backup("local", 1_700_000_000_000_000, 0, [])
    file.write_bytes(data)
    return file


def _refused(code: str, words: str, file: Path, cluster: str | None = None) -> None:
    with pytest.raises(Error, match=words) as refused:
        catalogue.restore(file, cluster)
    assert refused.value.code == code


def test_what_is_replaced_is_kept_beside(home: Path, backup: Path) -> None:
    first = catalogue.restore(backup)
    assert (first.directory, first.kept) == (home, None)
    (home / "catalogue.db").read_bytes()
    second = catalogue.restore(backup)
    assert second.kept is not None and second.kept.parent == home
    assert sorted(p.name for p in home.glob("catalogue.db*")) == sorted(["catalogue.db", second.kept.name])


def test_a_damaged_catalogue_is_replaced_and_kept_with_its_log(home: Path, backup: Path) -> None:
    (home / "catalogue.db").write_bytes(b"not a database at all, but long enough to be looked at as one, surely" * 20)
    (home / "catalogue.db-wal").write_bytes(b"log")
    kept = catalogue.restore(backup).kept
    assert kept is not None and kept.read_bytes().startswith(b"not a database")
    native.load().close_catalogue(str(home / "catalogue.db"))
    assert not (home / "catalogue.db-wal").exists()


def test_a_damaged_or_foreign_file_changes_nothing(home: Path, backup: Path, tmp_path: Path) -> None:
    catalogue.restore(backup)
    before = {p.name: p.read_bytes() for p in home.glob("catalogue.db*")}
    data = bytearray(backup.read_bytes())
    data[20] ^= 1
    (tmp_path / "damaged").write_bytes(data)
    _refused("data_loss", "damaged", tmp_path / "damaged")
    (tmp_path / "text").write_text("hello")
    _refused("invalid_argument", "not a backup", tmp_path / "text")
    data = bytearray(backup.read_bytes())
    data[8] = 9
    (tmp_path / "newer").write_bytes(data)
    _refused("failed_precondition", "use the Cenote that wrote it", tmp_path / "newer")
    assert {p.name: p.read_bytes() for p in home.glob("catalogue.db*")} == before


def test_a_backup_of_another_cluster_is_refused(home: Path, backup: Path) -> None:
    other = home.parent / "other"
    other.mkdir()
    settings = (native.SOURCE_ROOT / "settings" / "local.toml").read_text()
    (other / "settings.toml").write_text(settings.replace('name = "local"', 'name = "other"', 1))
    assert lifecycle.read_settings(other / "settings.toml", [])["cluster"]["name"] == "other"
    _refused("failed_precondition", "is of 'other'", backup, "other")
    _refused("not_found", "nowhere", backup, "nowhere")


def test_a_cluster_that_is_up_is_refused(home: Path, backup: Path) -> None:
    import fcntl

    with open(home / "supervisor.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _refused("failed_precondition", "cenote down", backup)

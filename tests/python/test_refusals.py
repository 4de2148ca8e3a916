"""Goal: a user's own code or file that cannot be used is refused in one sentence that names it, the place and what would do; nothing of the
libraries' logs or of a traceback gets in its way."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cenote import cli, interrupts, presets, sources
from cenote.cluster import ModelCard
from cenote.commands.infer import _npz, _save
from cenote.errors import Error, from_os
from cenote.export import ExportRefused, export_model

MODEL = """
import torch
def raises():
    return {}["weights"]
def ends():
    raise SystemExit("done")
def number():
    return 3, 4
def alone():
    return torch.nn.Linear(2, 2)
"""
CARD = ModelCard("d" * 64, "small", {"inputs": [{"name": "x", "dtype": "f32", "shape": [-1, 2]}]}, {})


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("raises", "model.py:raises raised KeyError: 'weights' (PATH/model.py:4, in raises)"),
        ("ends", "model.py:ends raised SystemExit: done (PATH/model.py:6, in ends)"),
        ("number", "returned int, not a torch.nn.Module"),
        ("alone", "returned no example inputs"),
        ("alon", "has no function 'alon', did you mean 'alone'?"),
    ],
)
def test_a_function_that_gives_no_model_is_named_with_its_line(tmp_path: Path, function: str, said: str) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    with pytest.raises(ExportRefused) as refused:
        sources.load_python(f"{tmp_path}/model.py:{function}")
    assert said.replace("PATH", str(tmp_path)) in str(refused.value)


@pytest.mark.parametrize(("text", "said"), [("def x(:\n", "SyntaxError"), ("import none_such_module\n", "No module named 'none_such_module'")])
def test_a_file_that_does_not_run_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(ExportRefused) as refused:
        sources.load_python(f"{tmp_path}/broken.py:x")
    assert said in str(refused.value)
    assert "broken.py:1" in str(refused.value)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ExportRefused, match="did you mean 'resnet152'"):
        presets.make("resnt152")
    with pytest.raises(ExportRefused, match="did you mean 'resnet18'"):
        sources.load_torch("torchvision.models:resnet_18")


def test_what_export_refuses_is_said_once_and_its_logs_are_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExportRefused, match="reduction dim"):
        export_model(torch.nn.Linear(4, 3), (torch.zeros(2, 5),))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.array(["a"])}, "'x' has dtype <U1; use one of f32"),
        ({"x": np.zeros((1, 2), np.complex64)}, "'x' has dtype complex64"),
        ({"x": np.array([{}], object)}, "not an .npz file of plain arrays"),
        ({"y": np.zeros(2)}, "holds ['y'], 'small' takes ['x']"),
    ],
)
def test_arrays_that_no_model_takes_are_refused_by_name(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "in.npz", **arrays)
    with pytest.raises(Error) as refused:
        _npz(tmp_path / "in.npz", CARD)
    assert refused.value.exit_code == 2
    assert said in refused.value.message


@pytest.mark.parametrize("cut", [0, 1, 40, 120])
def test_a_file_that_is_no_npz_or_was_cut_is_refused(tmp_path: Path, cut: int) -> None:
    np.savez(tmp_path / "in.npz", x=np.zeros((1, 2), np.float32))
    whole = (tmp_path / "in.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) - cut] if cut else b"junk")
    with pytest.raises(Error, match="not an .npz file") as refused:
        _npz(tmp_path / "cut.npz", CARD)
    assert refused.value.exit_code == 2
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(Error, match="not an .npz file"):
        _npz(tmp_path / "one.npy", CARD)


def test_outputs_of_any_name_are_saved_under_the_name_asked_for(tmp_path: Path) -> None:
    outputs = {"file": np.arange(3, dtype=np.float32), "a.b": np.ones((2, 2))}
    _save(tmp_path / "out.dat", outputs)
    with np.load(tmp_path / "out.dat") as saved:
        assert {name: saved[name].tolist() for name in saved.files} == {name: value.tolist() for name, value in outputs.items()}


@pytest.mark.parametrize(
    ("number", "exit_code"), [(errno.ENOSPC, 6), (errno.EACCES, 7), (errno.EROFS, 7), (errno.ENOENT, 4), (errno.EISDIR, 2), (errno.EIO, 1)]
)
def test_what_the_system_refuses_has_its_exit_code_and_its_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, exit_code: int
) -> None:
    def fails(_arguments: list[str]) -> int:
        raise OSError(number, "no", "/some/file")

    monkeypatch.setattr(cli, "_parse_and_run", fails)
    assert cli.run(["models"]) == exit_code == from_os(OSError(number, "no")).exit_code
    assert capsys.readouterr().err.startswith("error: /some/file: no")


def test_an_interrupt_that_a_library_swallowed_is_not_lost(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def swallows(_arguments: list[str]) -> int:
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        interrupts.check()
        return 0

    monkeypatch.setattr(cli, "_parse_and_run", swallows)
    monkeypatch.setattr(interrupts, "_asked", False)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        interrupts.install()
        assert cli.run(["deploy"]) == 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_an_interrupt_that_the_parser_turned_into_an_exit_code_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cenote.cluster.Cluster.connect", interrupted)
    assert cli.run(["models"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_a_library_that_fails_for_an_interrupt_does_not_hide_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(_arguments: list[str]) -> int:
        raise Error("invalid_argument", "maximum recursion depth exceeded")

    monkeypatch.setattr(cli, "_parse_and_run", fails)
    monkeypatch.setattr(interrupts, "_asked", True)
    assert cli.run(["deploy"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_what_a_users_code_prints_does_not_mix_with_the_answer(capfd: pytest.CaptureFixture[str]) -> None:
    from cenote.commands.models import _prints_aside

    with _prints_aside():
        print("loading")
        sys.stdout.close()
    print("answer")
    assert capfd.readouterr() == ("answer\n", "loading\n")

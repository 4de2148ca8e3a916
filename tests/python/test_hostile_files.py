"""Goal: folders, pictures and arrays that are damaged, lie about themselves or are no files are refused in one sentence before anything is
deployed or asked, and never served with weights that no file had."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from cenote import preprocess, sources
from cenote.cluster import ModelCard
from cenote.commands.infer import _npz
from cenote.errors import Error
from cenote.export import ExportRefused, export_model

CARD = ModelCard("d" * 64, "small", {"inputs": [{"name": "x", "dtype": "f32", "shape": [-1, 2]}]}, {})
HOW = {"kind": "image", "size": 8, "resize": 8, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear"}


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A whole Hugging Face folder of a tiny encoder."""
    import tokenizers
    import transformers

    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=50, max_position_embeddings=16
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, "[UNK]")).save(str(tmp_path / "bert" / "tokenizer.json"))
    return tmp_path / "bert"


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    import transformers

    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def _config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def _replace(name: str, data: bytes | None) -> Callable[[Path], None]:
    """None: a pipe, that would be waited on for ever."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name) if data is None else (folder / name).write_bytes(data)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_config(architectures="BertModel"), "'architectures' must be a list of names"),
        (_config(architectures={"a": 1}), "'architectures' must be a list of names"),
        (_config(architectures=[5]), "'architectures' must be a list of names"),
        (_config(vocab_size="x"), "vocab_size"),
        (_config(architectures=["logging"]), "transformers cannot load it"),
        (_replace("config.json", b"[" * 100000), "config.json: not JSON"),
        (_replace("config.json", None), "config.json: no such file"),
        (_replace("model.safetensors", None), "model.safetensors: not a file"),
        (_replace("tokenizer.json", b"\xff\0 not JSON"), "tokenizer.json: not a tokenizer"),
    ],
)
def test_a_folder_that_cannot_be_a_text_model_is_refused(bert: Path, change: Callable[[Path], None], said: str) -> None:
    change(bert)
    with pytest.raises(ExportRefused) as refused:
        sources.load_hf(str(bert))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_config(image_size=100_000), "'image_size' is 100000"),
        (_config(image_size="16"), "image_size"),
        (_replace("preprocessor_config.json", b'{"image_mean": "abc"}'), "'image_mean' is 'abc', it must be three numbers"),
        (_replace("preprocessor_config.json", b'{"image_std": [1, 0, 1]}'), "'image_std' is [1, 0, 1], it must be three numbers, none of them 0"),
    ],
)
def test_a_folder_that_cannot_be_a_model_of_pictures_is_refused(vit: Path, change: Callable[[Path], None], said: str) -> None:
    change(vit)
    with pytest.raises(ExportRefused) as refused:
        sources.load_hf(str(vit))
    assert said in str(refused.value)


def test_a_model_that_computes_with_tensors_no_file_has_is_refused_and_one_that_only_owns_them_is_not(bert: Path) -> None:
    def deployable(folder: Path) -> None:
        source = sources.load_hf(str(folder))
        sources.check_weights(source, export_model(source.module, source.inputs))

    from safetensors.torch import load_file, save_file

    whole = load_file(bert / "model.safetensors")
    without_pooler = {name: tensor for name, tensor in whole.items() if not name.startswith("pooler.")}
    assert len(without_pooler) < len(whole)
    save_file(without_pooler, bert / "model.safetensors", {"format": "pt"})
    deployable(bert)
    save_file({f"other.{name}": tensor for name, tensor in whole.items()}, bert / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExportRefused, match=r"its files lack \d+ of the \d+ tensors its outputs depend on, such as 'model\."):
        deployable(bert)
    save_file(whole, bert / "model.safetensors", {"format": "pt"})
    _config(num_hidden_layers=2)(bert)
    with pytest.raises(ExportRefused, match=r"such as 'model\.encoder\.layer\.1\."):
        deployable(bert)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("..x:y", "'..x' is no module's name"),
        ("no such:y", "'no such' is no module's name"),
        ("os:sep", "os has no function or class 'sep'"),
        ("raises_at_import_of_cenote_test:y", "importing raises_at_import_of_cenote_test raised ValueError: no luck"),
    ],
)
def test_a_constructor_that_cannot_be_imported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, said: str
) -> None:
    (tmp_path / "raises_at_import_of_cenote_test.py").write_text("raise ValueError('no luck')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ExportRefused) as refused:
        sources.load_torch(spec)
    assert said in str(refused.value)


def test_code_that_ends_the_process_or_is_no_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base").write_text("class Own(BaseException): pass\ndef f(): raise Own('mine')\n")
    (tmp_path / "junk").write_bytes(b"\0\xff")
    with pytest.raises(ExportRefused, match="raised Own: mine"):
        sources.load_python(f"{tmp_path}/base:f")
    with pytest.raises(ExportRefused, match="junk raised (SyntaxError|ValueError)"):
        sources.load_python(f"{tmp_path}/junk:f")

    class Ends(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise SystemExit(0)

    with pytest.raises(ExportRefused, match="refuses the module"):
        export_model(Ends(2, 2), (torch.zeros(1, 2),))


def _npy(shape: tuple[int, ...], body: bytes) -> bytes:
    header = str({"descr": "<f4", "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


@pytest.mark.parametrize(
    ("entry", "data", "said"),
    [
        ("x.npy", _npy((1 << 40, 8), b""), "not an .npz file of plain arrays"),
        ("x", b"no array", "'x' is no array"),
        ("x.npy", b"no array", "'x' is no array"),
        ("x.npy", _npy((2 << 20, 64), bytes(512 << 20)), "512 MiB unpacked, a request may carry 256 MiB"),
    ],
)
def test_arrays_that_lie_about_their_size_are_refused(tmp_path: Path, entry: str, data: bytes, said: str) -> None:
    with zipfile.ZipFile(tmp_path / "in.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(entry, data)
    with pytest.raises(Error) as refused:
        _npz(tmp_path / "in.npz", CARD)
    assert said in refused.value.message
    assert refused.value.exit_code == 2


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (lambda: preprocess.image(tmp_path / "pipe", HOW), lambda: _npz(tmp_path / "pipe", CARD)):
        with pytest.raises(Error, match="not a file") as refused:
            read()
        assert refused.value.exit_code == 2


def test_a_picture_beyond_the_limit_is_refused_and_not_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 60)).save(tmp_path / "large.png")
    monkeypatch.setattr(preprocess, "_PIXELS_MAX", 5000)
    with pytest.raises(Error, match="exceeds limit of 5000 pixels") as refused:
        preprocess.image(tmp_path / "large.png", HOW)
    assert refused.value.exit_code == 2


def test_files_of_a_model_that_cannot_be_followed_are_said_to_be_damaged(tmp_path: Path) -> None:
    Image.new("RGB", (10, 10)).save(tmp_path / "ok.png")
    for wrong in ({"mean": "abc"}, {"size": None}, {"interpolation": "none"}, {"std": [1, 2, 3, 4]}):
        with pytest.raises(Error, match="preprocess.json of this model") as refused:
            preprocess.image(tmp_path / "ok.png", HOW | wrong)
        assert refused.value.exit_code == 5
    with pytest.raises(Error, match="tokenizer.json of this model") as refused:
        preprocess.texts(["a"], {"length": 4, "inputs": ["input_ids"]}, {"tokenizer.json": b"\xff"})
    assert refused.value.exit_code == 5

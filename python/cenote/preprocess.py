"""Pictures and sentences to the arrays a model takes, by the files that travel in its manifest (cenote/sources.py), and back to answers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cenote.errors import Error, usage

if TYPE_CHECKING:
    from PIL.Image import Image

_PIXELS_MAX = 1 << 28


def _json(files: Mapping[str, bytes], name: str) -> Any:
    try:
        return json.loads(files[name])
    except ValueError as error:
        raise Error("data_loss", f"{name} of this model is not JSON ({error}); deploy it again") from error


def settings(files: Mapping[str, bytes], kind: str, model: str) -> dict[str, Any]:
    """preprocess.json, if it says how to read `kind` ("image", "text")."""
    found = _json(files, "preprocess.json") if "preprocess.json" in files else {}
    if found.get("kind") != kind:
        other = {"image": "--text", "text": "--image"}[kind] if found.get("kind") in ("image", "text") else "--npz FILE"
        raise usage(f"'{model}' was not deployed with {kind} preprocessing, so --{kind} cannot be used; give {other}")
    return found


def image(path: str | Path, how: Mapping[str, Any]) -> np.ndarray:
    """One picture as float32 [3, size, size]: shorter side resized, centre cropped, normalised."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = _PIXELS_MAX
    if not Path(path).exists():
        raise Error("not_found", f"{path}: no such file")
    if not Path(path).is_file():  # A pipe, say, on which one would wait for ever.
        raise usage(f"{path}: not a file; give a picture's file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                picture = opened.convert("RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, OSError, ValueError, SyntaxError) as error:  # Pillow's, by format.
        raise usage(f"{path}: not a picture that can be read ({error})") from error
    try:
        return _array(picture, how)
    except (KeyError, TypeError, ValueError) as error:
        raise Error("data_loss", f"preprocess.json of this model cannot be followed ({error!r}); deploy it again") from error


def _array(picture: Image, how: Mapping[str, Any]) -> np.ndarray:
    from PIL import Image

    size, resize = int(how["size"]), int(how["resize"])
    width, height = picture.size
    # The longer side is cut off, not rounded, as torchvision's Resize does.
    scaled = (resize, int(resize * height / width)) if width <= height else (int(resize * width / height), resize)
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC, "nearest": Image.Resampling.NEAREST}
    picture = picture.resize(scaled, filters[how["interpolation"]])
    left, top = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    picture = picture.crop((left, top, left + size, top + size))
    pixels = np.asarray(picture, np.float32) / np.float32(255)
    pixels = (pixels - np.asarray(how["mean"], np.float32)) / np.asarray(how["std"], np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _tokenizer(data: bytes) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(data.decode("utf-8"))
    except Exception as error:  # The library raises plain Exception.
        raise Error("data_loss", f"tokenizer.json of this model is not a tokenizer ({str(error)[:200]}); deploy it again") from error


def texts(sentences: Sequence[str], how: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """Token ids and masks of a batch, padded to the model's length; longer sentences are cut."""
    if "tokenizer.json" not in files:
        raise usage("this model has no tokenizer.json in its manifest, so --text cannot be used; give token ids with --npz FILE")
    tokenizer = _tokenizer(files["tokenizer.json"])
    length = int(how["length"])
    tokenizer.enable_truncation(length)
    tokenizer.no_padding()
    ids = np.full((len(sentences), length), int(how.get("pad", 0)), np.int64)
    mask = np.zeros((len(sentences), length), np.int64)
    types = np.zeros((len(sentences), length), np.int64)
    for row, encoded in enumerate(tokenizer.encode_batch(list(sentences))):
        count = len(encoded.ids)
        ids[row, :count], mask[row, :count], types[row, :count] = encoded.ids, 1, encoded.type_ids
    known = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    unknown = [name for name in how["inputs"] if name not in known]
    if unknown:
        raise usage(f"input '{unknown[0]}' cannot be made of text; give all inputs with --npz FILE")
    return {name: known[name] for name in how["inputs"]}


@dataclass(frozen=True)
class Guess:
    label: str
    index: int
    probability: float


def top(logits: np.ndarray, files: Mapping[str, bytes], count: int = 5) -> list[Guess]:
    """The likeliest classes of one row of logits."""
    labels = _json(files, "labels.json") if "labels.json" in files else None
    row = np.asarray(logits, np.float64)
    powers = np.exp(row - row.max())
    probabilities = powers / powers.sum()
    best = np.argsort(-probabilities, kind="stable")[:count]
    named = labels is not None and len(labels) == len(row)
    return [Guess(labels[i] if named else f"class {i}", int(i), float(probabilities[i])) for i in best]


def similarities(vectors: np.ndarray) -> np.ndarray:
    """Cosines between all rows."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit @ unit.T

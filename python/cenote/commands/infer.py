"""infer: one request from the command line."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cenote.commands.options import CertificatesOption, ClusterOption, DeadlineOption, Output, OutputOption

if TYPE_CHECKING:
    import numpy as np

    from cenote.cluster import Answer, Cluster, ModelCard

_VALUES_SHOWN = 6
_PAYLOAD_BYTES_MAX = 256 << 20  # What limits.payload_max can be at most; the router has the last word.
_NPZ_BYTES_MAX = _PAYLOAD_BYTES_MAX + (1 << 20)  # With the headers of its arrays.


def _read_npz(path: Path, model: str, expected: list[str]) -> dict[str, Any]:
    """The arrays of a file that holds what is expected and no more bytes, unpacked, than a request may carry."""
    import numpy as np

    from cenote.errors import usage
    from cenote.show import format_bytes

    if not zipfile.is_zipfile(path):
        raise ValueError("no zip archive")
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    with np.load(path, allow_pickle=False) as loaded:
        if set(loaded.files) != set(expected):
            raise usage(f"{path} holds {sorted(loaded.files)}, '{model}' takes {sorted(expected)}; save them with numpy.savez(FILE, name=array)")
        if unpacked > _NPZ_BYTES_MAX:
            raise usage(f"{path}: {format_bytes(unpacked)} unpacked, a request may carry {format_bytes(_PAYLOAD_BYTES_MAX)}; send smaller batches")
        return {name: loaded[name] for name in loaded.files}


def _npz(path: Path, card: ModelCard) -> list[tuple[str, Any]]:
    import numpy as np

    from cenote.arrays import NUMPY_DTYPES
    from cenote.errors import Error, usage

    if not path.is_file():
        raise usage(f"{path}: not a file; give an .npz file") if path.exists() else Error("not_found", f"{path}: no such file")
    expected = [spec["name"] for spec in card.signature["inputs"]]
    try:
        arrays = _read_npz(path, card.name, expected)
    except (ValueError, EOFError, MemoryError, NotImplementedError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise usage(f"{path}: not an .npz file of plain arrays ({error}); write it with numpy.savez(FILE, name=array)") from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise usage(f"{path}: '{name}' is no array; write it with numpy.savez(FILE, name=array)")
        if array.dtype.newbyteorder("=") not in map(np.dtype, NUMPY_DTYPES.values()):
            raise usage(f"{path}: '{name}' has dtype {array.dtype}; use one of {', '.join(NUMPY_DTYPES)}")
    return [(name, arrays[name]) for name in expected]


def _save(path: Path, outputs: dict[str, Any]) -> None:
    """As numpy.savez would, but under exactly this name, and for outputs of any name."""
    import numpy as np

    with zipfile.ZipFile(path, "w") as archive:
        for name, value in outputs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(value), allow_pickle=False)


def _batched(values: np.ndarray, card: ModelCard, what: str) -> None:
    from cenote.errors import usage

    shape = card.signature["inputs"][0]["shape"]
    if shape and shape[0] != -1 and shape[0] != len(values):
        raise usage(f"'{card.name}' was exported for {shape[0]} {what} at a time, {len(values)} given")


def _answer_images(connected: Cluster, model: str, card: ModelCard, files: list[Path], deadline: float) -> tuple[Answer, dict[str, Any]]:
    import numpy as np

    from cenote import preprocess

    how = preprocess.settings(card.files, "image", card.name)
    pixels = np.stack([preprocess.image(path, how) for path in files])
    _batched(pixels, card, "images")
    answer = connected.ask_flat(model, [(card.signature["inputs"][0]["name"], pixels)], deadline_s=deadline)
    (logits, *_) = answer.outputs.values()
    guesses = {
        str(path): [{"label": g.label, "index": g.index, "probability": round(g.probability, 6)} for g in preprocess.top(row, card.files)]
        for path, row in zip(files, logits, strict=True)
    }
    return answer, {"classes": guesses}


def _answer_texts(connected: Cluster, model: str, card: ModelCard, sentences: list[str], deadline: float) -> tuple[Answer, dict[str, Any]]:
    from cenote import preprocess

    how = preprocess.settings(card.files, "text", card.name)
    tokens = preprocess.texts(sentences, how, card.files)
    _batched(tokens[how["inputs"][0]], card, "texts")
    names = [spec["name"] for spec in card.signature["inputs"]]
    answer = connected.ask_flat(model, [(name, tokens[name]) for name in names], deadline_s=deadline)
    (first, *_) = answer.outputs.values()
    if how.get("output") == "embedding":
        close = preprocess.similarities(first)
        return answer, {"texts": sentences, "similarities": [[round(float(v), 4) for v in row] for row in close]}
    return answer, {"texts": sentences, "outputs": _summary(answer)}


def _summary(answer: Answer) -> dict[str, Any]:
    return {
        name: {"shape": list(value.shape), "dtype": str(value.dtype), "first": [float(v) for v in value.reshape(-1)[:_VALUES_SHOWN]]}
        for name, value in answer.outputs.items()
    }


def _print_answer(body: dict[str, Any]) -> None:
    from cenote.show import console, escape, table
    from cenote.waterfall import bar

    out = console()
    for path, guesses in body.get("classes", {}).items():
        out.print(f"[bold]{escape(path)}[/]")
        for guess in guesses:
            out.print(f"  {guess['probability']:6.1%}  [green]{bar(guess['probability'], 1, 20):<20}[/]  {escape(guess['label'])}")
    if "similarities" in body:
        texts = body["texts"]
        if len(texts) > 1:
            rows = [[f"{i + 1}  {escape(text)}", *[f"{v:.2f}" for v in row]] for i, (text, row) in enumerate(zip(texts, body["similarities"], strict=True))]
            numbers = [str(i + 1) for i in range(len(texts))]
            table(["cosine", *numbers], rows, right=numbers)
        else:
            out.print("one embedding; give several --text to compare them")
    for name, value in body.get("outputs", {}).items():
        first = ", ".join(f"{v:.6g}" for v in value["first"])
        out.print(f"[bold]{escape(name)}[/] {value['dtype']}{value['shape']}: {first}, ...", markup=True)


def infer(
    model: Annotated[str, typer.Argument(metavar="NAME[:TAG|@DIGEST]", help="Which model.")],
    image: Annotated[list[Path] | None, typer.Option("--image", metavar="FILE", help="A picture to classify; may be repeated.")] = None,
    text: Annotated[list[str] | None, typer.Option("--text", metavar="TEXT", help="A sentence; may be repeated.")] = None,
    npz: Annotated[Path | None, typer.Option("--npz", metavar="FILE", help="All inputs by name, as numpy.savez writes them.")] = None,
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Write all outputs as .npz.")] = None,
    deadline: DeadlineOption = 60.0,
    cluster: ClusterOption = None,
    certificates: CertificatesOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Ask a model, and show where the time went.

    Example: cenote infer efficientnet-lite0 --image cat.jpg
    """
    from cenote.cluster import Cluster
    from cenote.errors import usage
    from cenote.show import console, print_json
    from cenote.waterfall import draw

    if sum(bool(given) for given in (image, text, npz)) != 1:
        raise usage("give the inputs with one of --image FILE, --text TEXT, --npz FILE")
    with Cluster.connect(cluster, certificates=certificates) as connected:
        card = connected.card(model)
        revision = f"{card.name}@{card.digest}"
        if image:
            answer, body = _answer_images(connected, revision, card, image, deadline)
        elif text:
            answer, body = _answer_texts(connected, revision, card, text, deadline)
        else:
            assert npz is not None
            answer = connected.ask_flat(revision, _npz(npz, card), deadline_s=deadline)
            body = {"outputs": _summary(answer)}
    if save is not None:
        _save(save, answer.outputs)
    if output is Output.json:
        print_json(
            {"model": card.name, "digest": card.digest, "executor": answer.executor, **body, "waterfall": answer.waterfall.as_json()}
        )
        return
    _print_answer(body)
    out = console()
    out.print()
    out.print(draw(answer.waterfall))
    out.print(f"[dim]{card.name}@{card.digest[:12]} on {answer.executor}[/]")


def add_to(app: typer.Typer) -> None:
    app.command()(infer)

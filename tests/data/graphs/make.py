"""Makes the models of this folder from tests/python/zoo.py: each with its inputs at some batches and PyTorch's outputs for them.

    python tests/data/graphs/make.py
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tests" / "python")]

from test_export import resized  # noqa: E402
from zoo import CASES  # noqa: E402

from cenote import graph_tool, pytree  # noqa: E402
from cenote.export import export_model  # noqa: E402

# Name -> what it is here for.
MODELS = {
    "ConvNet": "layers, in-place operators, dropout",
    "TiedLanguageModel": "a table read by rows first and whole later",
    "Counter": "buffers that the graph writes",
    "Nested": "nested inputs and outputs, numbers and constants among them",
    "Dtypes": "every dtype in and out",
    "ShapeArithmetic": "sizes computed in the graph",
    "AdvancedIndex": "lists with missing tensors",
    "Splits": "lists of tensors, results that are lists",
    "Rotary": "complex numbers inside",
    "WritesItsInput": "an input that the graph writes",
    "Lstm": "an operator with several results",
}
BATCHES = (1, 5)
FIXED = {"WritesItsInput"}


def main() -> None:
    for name in MODELS:
        module, args, kwargs = CASES[name]()
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        exported = export_model(copy.deepcopy(module), copy.deepcopy(args), kwargs, name=name)
        graph_tool.write_folder(exported, folder)
        for batch in [2] if name in FIXED else BATCHES:
            these, those = copy.deepcopy(resized((args, kwargs), 2, batch))
            leaves = pytree.bind(json.loads(exported.inputs_tree), these, those)
            graph_tool.write_tensors(folder / f"inputs{batch}", exported.inputs, leaves)
            with torch.no_grad():
                result = copy.deepcopy(module).eval()(*these, **those)
            values = [
                v for v in torch.utils._pytree.tree_leaves(result)
                if isinstance(v, torch.Tensor) or (name == "Nested" and type(v) is int)
            ]  # fmt: skip
            graph_tool.write_tensors(folder / f"outputs{batch}", exported.outputs, values)


if __name__ == "__main__":
    main()

"""How others bring a model from disk to its first output: torch.load, torch.load with mmap, safetensors. Each in a fresh process.

    loads = prepare(source, "gpt2", directory)        # writes weights.pt and weights.safetensors
    measure(loads, "safetensors", threads=1)          # {"imports_s", "first_s", "process_s", "output"}

The files' pages are warm: they were just written. The module is built on the meta device and its tensors assigned, not copied: the fastest
way these libraries document. Weights are touched by the first output itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cenote.sources import Source

METHODS = ("torch.load", "torch.load mmap", "safetensors")
_TIMEOUT_S = 300


@dataclass(frozen=True)
class Prepared:
    """A model as these libraries keep it: weights on disk, and how to build its module."""

    directory: Path
    preset: str


def prepare(source: Source, preset: str, directory: Path, inputs: tuple[Any, ...] | None = None) -> Prepared:
    """Writes the weights of a preset's source in both formats, and the inputs to ask with (default: its example inputs)."""
    import torch
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in source.module.state_dict().items()}
    torch.save(state, directory / "weights.pt")
    once: dict[int, str] = {}  # safetensors refuses tensors that share memory: tied ones are stored once.
    unique = {name: tensor for name, tensor in state.items() if once.setdefault(tensor.data_ptr(), name) == name or not tensor.numel()}
    save_file(unique, directory / "weights.safetensors")
    torch.save(tuple(source.inputs if inputs is None else inputs), directory / "inputs.pt")
    if source.graph is not None:
        (directory / "graph.json").write_text(json.dumps(source.graph))
    return Prepared(directory, preset)


def measure(prepared: Prepared, method: str, threads: int) -> dict[str, Any]:
    """One fresh process. `imports_s`: until torch and the model's library are there; `first_s`: from then to the first output;
    `process_s`: from before the process is made to the first output; `output`: the sum of its absolute values."""
    if method not in METHODS:
        raise ValueError(f"method '{method}': use one of {', '.join(METHODS)}")
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    started = time.time()
    ended = subprocess.run(
        [sys.executable, "-m", "cenote.weight_loads", method, str(prepared.directory), prepared.preset, str(threads)],
        capture_output=True, text=True, timeout=_TIMEOUT_S, env=environment, check=False,
    )  # fmt: skip
    if ended.returncode != 0:
        raise RuntimeError(f"{method} of {prepared.preset} failed: {ended.stderr.strip()[-500:]}")
    result = json.loads(ended.stdout.splitlines()[-1])
    result["process_s"] = result.pop("done_at") - started
    return result


def _build_on_meta(preset: str, state: dict[str, Any], graph_file: Path) -> Any:
    import torch

    from cenote import presets, sources

    if graph_file.exists():
        from cenote.rebuild import rebuild

        graph = json.loads(graph_file.read_text())
        held = list(dict.fromkeys(tensor for _, tensor in graph["weights"]))
        return rebuild(graph, {tensor: torch.empty_like(state[f"w{i}"], device="meta") for i, tensor in enumerate(held)})
    with torch.device("meta"):
        if preset in presets.SEEDED:
            return presets.SEEDED[preset].build(presets.SEEDED[preset].length).eval()
        return sources.skeleton(preset)


def _assign(module: Any, state: dict[str, Any]) -> None:
    missing, unexpected = module.load_state_dict(state, assign=True, strict=False)
    if unexpected:
        raise RuntimeError(f"weights the module does not have: {unexpected[:3]}")
    for sub in module.modules():
        if hasattr(sub, "tie_weights"):
            sub.tie_weights()
    left = [name for name, tensor in [*module.named_parameters(), *module.named_buffers()] if tensor.is_meta]
    for name in left:  # Buffers that no state dict holds, such as position ids: made anew, as the libraries do.
        _remake(module, name)
    del missing


def _remake(module: Any, name: str) -> None:
    import torch

    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    old = getattr(owner, leaf)
    if leaf == "position_ids":
        fresh = torch.arange(old.shape[-1]).expand(old.shape).clone()
    elif leaf == "token_type_ids":
        fresh = torch.zeros(old.shape, dtype=old.dtype)
    elif leaf == "bias" and old.dtype == torch.bool:
        fresh = torch.ones(old.shape, dtype=torch.bool).tril()
    else:
        raise RuntimeError(f"tensor '{name}' is in no file and cannot be made anew")
    owner.register_buffer(leaf, fresh, persistent=False)


def _main() -> None:
    begin = time.perf_counter()
    method, directory, preset, threads = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    import torch

    torch.set_num_threads(threads)
    if method == "safetensors":
        from safetensors.torch import load_file
    if (directory / "graph.json").exists():
        import cenote.rebuild  # noqa: F401
    elif preset in ("bert_base", "gpt2", "minilm"):
        import transformers.models.bert.modeling_bert
        import transformers.models.gpt2.modeling_gpt2  # noqa: F401
    elif preset == "efficientnet-lite0":
        import efficientnet_lite_pytorch  # noqa: F401
    else:
        import torchvision  # noqa: F401
    inputs = torch.load(directory / "inputs.pt", weights_only=True)
    imported = time.perf_counter()
    if method == "safetensors":
        state = load_file(directory / "weights.safetensors")
    else:
        state = torch.load(directory / "weights.pt", weights_only=True, mmap=method.endswith("mmap"))
    module = _build_on_meta(preset, state, directory / "graph.json")
    _assign(module, state)
    with torch.inference_mode():
        output = module(*inputs)
        total = sum(float(t.abs().sum()) for t in torch.utils._pytree.tree_leaves(output) if isinstance(t, torch.Tensor))
    done = time.perf_counter()
    print(json.dumps({"imports_s": imported - begin, "first_s": done - imported, "done_at": time.time(), "output": total}))


if __name__ == "__main__":
    _main()

"""Models by name: architectures of torchvision and transformers with seeded weights, and the two that come with real ones.

    source = presets.make("resnet152", seed=3)

Seeded weights differ between seeds in every tensor, so instances share no block; they are scaled so that activations neither vanish nor
overflow. The first five are those of the DistMind artifact.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from cenote import sources
from cenote.graph_types import ExportRefused
from cenote.sources import Source


@dataclass(frozen=True)
class Preset:
    """`build(length)` makes the module; `images` or `length` says what it takes."""

    build: Callable[[int], torch.nn.Module]
    images: int = 0  # Height and width.
    length: int = 0  # Tokens.
    vocabulary: int = 0


@contextlib.contextmanager
def _no_initialisation() -> Iterator[None]:
    """Constructors fill weights at some 10^8 numbers a second, only to be overwritten: torch.nn.init does nothing meanwhile."""
    saved = {n: f for n, f in vars(torch.nn.init).items() if n.endswith("_") and not n.startswith("_") and callable(f)}
    for name in saved:
        setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
    try:
        yield
    finally:
        for name, function in saved.items():
            setattr(torch.nn.init, name, function)


def _torchvision(name: str, **arguments: object) -> Callable[[int], torch.nn.Module]:
    def build(_length: int) -> torch.nn.Module:
        import torchvision

        return getattr(torchvision.models, name)(weights=None, **arguments)

    return build


class _Hidden(torch.nn.Module):
    """Positions and types are computed: left to BertModel, they are buffers, equal for every seed."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(input_ids.shape[1]).unsqueeze(0)
        return self.model(input_ids=input_ids, position_ids=positions, token_type_ids=torch.zeros_like(input_ids)).last_hidden_state


class _Logits(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, use_cache=False).logits


def _bert(_length: int) -> torch.nn.Module:
    from transformers import BertConfig, BertModel

    return _Hidden(BertModel(BertConfig(attn_implementation="sdpa"), add_pooling_layer=False))


def _gpt2(_length: int) -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return _Logits(GPT2LMHeadModel(GPT2Config(attn_implementation="sdpa")))


SEEDED: dict[str, Preset] = {
    "resnet152": Preset(_torchvision("resnet152"), images=224),
    "inception_v3": Preset(_torchvision("inception_v3", init_weights=False, aux_logits=False, transform_input=False), images=299),
    "densenet201": Preset(_torchvision("densenet201"), images=224),
    "bert_base": Preset(_bert, length=128, vocabulary=30522),
    "gpt2": Preset(_gpt2, length=64, vocabulary=50257),
    "resnet18": Preset(_torchvision("resnet18"), images=224),
    "resnet50": Preset(_torchvision("resnet50"), images=224),
    "vit_b_16": Preset(_torchvision("vit_b_16"), images=224),
}
REAL: dict[str, Callable[[], Source]] = {"efficientnet-lite0": sources.efficientnet_lite0, "minilm": sources.minilm}


def names() -> list[str]:
    return [*SEEDED, *REAL]


def make(name: str, seed: int = 0, batch: int = 1, length: int | None = None) -> Source:
    """Module, example inputs and files of a preset. `length` (tokens) is for text models. ExportRefused: an unknown name."""
    if name in REAL:
        if seed:
            raise ExportRefused(f"preset '{name}' has real weights: it takes no seed")
        return REAL[name]()
    preset = SEEDED.get(name)
    if preset is None:
        raise ExportRefused(f"no preset '{name}'{sources.did_you_mean(name, names()) or ':'} there are {', '.join(names())}")
    if preset.length:
        import transformers.modeling_utils  # noqa: F401  It keeps torch.nn.init's functions as it finds them.
    with _no_initialisation():
        module = preset.build(length or preset.length).eval()
    fill(module, seed)
    generator = torch.Generator().manual_seed(seed)
    if preset.images:
        inputs = (torch.randn(batch, 3, preset.images, preset.images, generator=generator),)
        images = dict(sources.IMAGENET_IMAGES, size=preset.images, resize=round(preset.images / 0.875), seed=seed)
        files = {"preprocess.json": json.dumps(images).encode()}
    else:
        inputs = (torch.randint(0, preset.vocabulary, (batch, length or preset.length), generator=generator),)
        files = {}
    return Source(name, module, inputs, files)


def fill(module: torch.nn.Module, seed: int) -> None:
    """Seeded weights for every parameter and floating-point buffer of running statistics, in place."""
    generator = torch.Generator().manual_seed(seed)
    residual = _residual_norms(module)
    text = any(isinstance(m, torch.nn.Embedding) for m in module.modules())
    with torch.no_grad():
        for owner_name, owner in module.named_modules():
            for name, tensor in owner.named_parameters(recurse=False):
                low, high = _bounds(owner, name, tensor, f"{owner_name}.{name}" in residual, text)
                tensor.uniform_(low, high, generator=generator)
            if isinstance(owner, torch.nn.modules.batchnorm._BatchNorm):
                owner.running_mean.uniform_(-0.1, 0.1, generator=generator)
                owner.running_var.uniform_(0.5, 1.5, generator=generator)


def _residual_norms(module: torch.nn.Module) -> set[str]:
    """The last normalisation of each residual branch: small, so that a sum of fifty branches stays in range."""
    from torchvision.models.resnet import BasicBlock, Bottleneck

    found = set()
    for name, block in module.named_modules():
        if isinstance(block, Bottleneck):
            found.add(f"{name}.bn3.weight")
        elif isinstance(block, BasicBlock):
            found.add(f"{name}.bn2.weight")
    return found


def _bounds(owner: torch.nn.Module, name: str, tensor: torch.Tensor, residual: bool, text: bool) -> tuple[float, float]:
    """Range of the uniform distribution; of standard deviation s it is +-sqrt(3) s."""
    if residual:
        return 0.1, 0.3
    if tensor.dim() < 2:
        normalises = isinstance(owner, (torch.nn.modules.batchnorm._BatchNorm, torch.nn.LayerNorm))
        return (0.8, 1.2) if normalises and name == "weight" else (-0.05, 0.05)
    if text or isinstance(owner, (torch.nn.Linear, torch.nn.MultiheadAttention)):
        deviation = 0.02
    else:
        deviation = math.sqrt(2 / (tensor.numel() / tensor.shape[0]))  # He et al. 2015, equation 10.
    return -math.sqrt(3) * deviation, math.sqrt(3) * deviation

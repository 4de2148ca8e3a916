"""Small modules of many kinds, each with the call it is exported with. Used by test_export.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Case = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
CASES: dict[str, Callable[[], Case]] = {}


def case(*args: Any, **kwargs: Any) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Registers a module class under its name, called with these arguments."""

    def register(cls: type[nn.Module]) -> type[nn.Module]:
        def make() -> Case:
            torch.manual_seed(0)
            return cls(), args, kwargs

        CASES[cls.__name__] = make
        return cls

    return register


def function(name: str, f: Callable[..., Any], *args: Any) -> None:
    """Registers a function of tensors, as a module without parameters."""

    class Function(nn.Module):
        def forward(self, *tensors: Tensor) -> Any:
            return f(*tensors)

    CASES[name] = lambda: (Function(), args, {})


torch.manual_seed(1)
X = torch.randn(2, 6)
IMAGE = torch.randn(2, 3, 12, 12)
SEQUENCE = torch.randn(2, 5, 8)
IDS = torch.randint(0, 11, (2, 5))


@case(IMAGE)
class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, groups=4), nn.GroupNorm(2, 8), nn.Hardswish(), nn.Dropout(), nn.AdaptiveAvgPool2d(2),
        )  # fmt: skip
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1)).softmax(-1)


@case(SEQUENCE)
class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Any:
        return self.rnn(x)


@case(SEQUENCE, torch.zeros(1, 2, 6))
class Gru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, 6, batch_first=True)

    def forward(self, x: Tensor, state: Tensor) -> Any:
        y, s = self.rnn(x, state)
        return {"y": y, "state": s}


@case(SEQUENCE)
class ElmanRnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(8, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


@case(SEQUENCE, mask=torch.tensor([[False] * 5, [False, False, False, True, True]]))
class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor, *, mask: Tensor) -> Any:
        return self.attention(x, x, x, key_padding_mask=mask)


@case(SEQUENCE)
class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)


@case(SEQUENCE, torch.randn(2, 3, 8))
class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 1)

    def forward(self, memory: Tensor, target: Tensor) -> Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        return self.decoder(target, memory, tgt_mask=causal, tgt_is_causal=True)


@case(IDS)
class TiedLanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8, padding_idx=0)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids))


@case(IDS)
class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(11, 4, mode="mean")

    def forward(self, ids: Tensor) -> Tensor:
        return self.bag(ids)


@case(X)
class Counter(nn.Module):
    """Writes buffers, one through a view."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("memory", torch.zeros(3, 6))

    def forward(self, x: Tensor) -> Any:
        self.calls.add_(1)
        self.memory[1] = x.sum(0)
        return x + self.calls, self.memory.sum()


@case({"left": X, "right": (X, [torch.ones(2, 6, dtype=torch.float64)])}, scale=2.5, flag=True, text="no", nothing=None)
class Nested(nn.Module):
    def forward(self, tree: Any, *, scale: float, flag: bool, text: str, nothing: None) -> Any:
        left, (right, (third,)) = tree["left"], tree["right"]
        return [{"sum": (left + right) * scale, "n": left.shape[0], "text": text}, (third, None, nothing), flag]


@case(torch.randint(0, 9, (2, 4)), torch.randint(0, 9, (2, 4), dtype=torch.int32), torch.randint(0, 9, (2, 4), dtype=torch.int16),
      torch.randint(-9, 9, (2, 4), dtype=torch.int8), torch.randint(0, 9, (2, 4), dtype=torch.uint8), torch.tensor([[True, False] * 2] * 2),
      torch.randn(2, 4).half(), torch.randn(2, 4).bfloat16(), torch.randn(2, 4).double())  # fmt: skip
class Dtypes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.halved = nn.Linear(4, 3).half()
        self.brain = nn.Linear(4, 3).bfloat16()

    def forward(self, a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor, g: Tensor, h: Tensor, i: Tensor) -> Any:
        return a // 2, b + 1, c * 2, -d, e % 3, ~f, self.halved(g), self.brain(h), i.where(f, 0.0), (a > 3).any(1)


@case(IMAGE)
class NoGrad(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            x = self.stem(x)
        with torch.enable_grad():
            return self.head(x)


@case(torch.randn(2, 5, 8))
class Rotary(nn.Module):
    """A complex constant."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("angles", torch.polar(torch.ones(5, 4), torch.arange(20.0).view(5, 4)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.view_as_real(torch.view_as_complex(x.view(-1, 5, 4, 2)) * self.angles).flatten(2)


@case(X)
class WeightNormed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.utils.parametrizations.weight_norm(nn.Linear(6, 3))
        self.shared = nn.Parameter(torch.randn(4, 6))
        self.views = list(self.shared.detach().split(2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.linear(x), x @ self.views[0].t(), x @ self.views[1].t()], 1)


@case(X)
class OddlyStored(nn.Module):
    """Tensors that are empty, without dimensions, transposed, slices, strided or expanded."""

    def __init__(self) -> None:
        super().__init__()
        self.empty = nn.Parameter(torch.zeros(0, 6))
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.turned = nn.Parameter(torch.randn(6, 4).t())
        self.register_buffer("slice", torch.randn(100)[3:9])
        self.register_buffer("strided", torch.randn(12)[::2])
        self.register_buffer("expanded", torch.tensor([1.5]).expand(6))
        self.plain = torch.tensor([0.5]).expand(6)

    def forward(self, x: Tensor) -> Any:
        y = torch.cat([x, self.empty]) * self.scale @ self.turned.t()
        return y, x * self.slice + self.strided + self.expanded - self.plain, self.empty, self.scale


@case(X)
class WritesItsInput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2)
        return x[:, :3].add_(1)


@case(X)
class TensorAssignment(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        y[:, ::2] = x[:, 1::2]
        y[:, 1::2] = 0
        return y.new_empty(y.shape).copy_(y)


class _Frozen(nn.Module):
    """Unused and untouched parameters are not exported."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(6, 2)
        self.unused = nn.Linear(100, 100)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


CASES["Unused"] = lambda: (_Frozen(), (X,), {})

function("Einsum", lambda a, b: torch.einsum("bij,bkj->bik", a, b), SEQUENCE, torch.randn(2, 3, 8))
function("Scans", lambda x: (x.cumsum(1), x.cumprod(1), x.cummax(1), torch.logcumsumexp(x, 1), x.diff(dim=1)), X)
function("Order", lambda x: (x.topk(3), x.sort(dim=1, descending=True), x.argsort(1), x.median(1), x.kthvalue(2, 1)), X)
function("Where", lambda x: torch.where(x > 0, x, x.exp() - 1).masked_fill(x.abs() < 0.1, float("-inf")), X)
function(
    "Scatter", lambda x, i: (x.scatter(1, i, 0.5), x.scatter_add(1, i, x), x.gather(1, i), x.index_select(1, i[0])), X, torch.randint(0, 6, (2, 6))
)
function("IndexPut", lambda x: x.index_put((torch.tensor([0]), torch.tensor([1])), torch.tensor([9.0])), X)
function("AdvancedIndex", lambda x, i: (x[:, i[0]], x[:, None, ..., 2:5:2], x[:, [0, 3]], x[x.shape[0] - 1]), SEQUENCE, torch.randint(0, 5, (2, 3)))
function("Resize", lambda x: (
    F.interpolate(x, scale_factor=2, mode="nearest"), F.interpolate(x, size=(7, 5), mode="bilinear", align_corners=False),
    F.interpolate(x, scale_factor=1.5, mode="bicubic"), F.interpolate(x, size=9, mode="area")), IMAGE)  # fmt: skip
function("Shuffle", lambda x: (F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2), F.pixel_unshuffle(x, 3), F.channel_shuffle(x.repeat(1, 2, 1, 1), 3)), IMAGE)
function(
    "Pads",
    lambda x: (F.pad(x, (1, 2, 0, 3)), F.pad(x, (1, 1, 1, 1), "reflect"), F.pad(x, (2, 0, 1, 1), "replicate"), F.pad(x, (1, 1, 0, 2), "circular")),
    IMAGE,
)
function(
    "Norms",
    lambda x: (F.layer_norm(x, (8,)), F.rms_norm(x, (8,)), F.normalize(x, dim=-1), F.instance_norm(x), x.norm(dim=1), torch.std_mean(x, 1)),
    SEQUENCE,
)
function(
    "Pools", lambda x: (F.avg_pool2d(x, 3, 2, 1), F.max_pool2d(x, 2, return_indices=True), F.adaptive_max_pool2d(x, 3), F.lp_pool2d(x, 2, 3)), IMAGE
)
function("Windows", lambda x: (F.unfold(x, 3, padding=1), x.unfold(2, 4, 2), F.fold(F.unfold(x, 2, stride=2), (12, 12), 2, stride=2)), IMAGE)
function("Convolutions", lambda x: (
    F.conv_transpose2d(x, torch.ones(3, 2, 2, 2), stride=2), F.conv1d(x[:, :, 0], torch.ones(4, 3, 3)),
    F.conv3d(x[:, None], torch.ones(1, 1, 2, 3, 3))), IMAGE)  # fmt: skip
function(
    "Grid",
    lambda x: F.grid_sample(x, F.affine_grid(torch.eye(2, 3).expand(x.shape[0], 2, 3), list(x.shape), align_corners=False), align_corners=False),
    IMAGE,
)
function("ShapeArithmetic", lambda x: x.reshape(x.shape[0] * 2, -1).view(-1, x.size(1) // 2).sum(-1).repeat(2, 1) * x.shape[0], X)
function(
    "Ranges",
    lambda x: (
        torch.arange(x.shape[0]),
        torch.ones(x.shape[0], 2) / x.shape[0],
        torch.zeros_like(x).fill_(x.shape[1]),
        torch.linspace(0, 1, 5),
        torch.full((x.shape[0],), -2),
    ),
    X,
)
function("Splits", lambda x: (x.chunk(4, 1), x.split([1, 2, 3], 1), x.unbind(1)[2], torch.stack([x, x], 1), torch.cat([x, x[:, :2]], 1)), X)
function(
    "Activations",
    lambda x: (
        [
            f(x)
            for f in (F.relu6, F.elu, F.selu, F.gelu, F.silu, F.mish, F.hardsigmoid, F.leaky_relu, F.softplus, F.logsigmoid, F.tanhshrink, torch.erf)
        ]
        + [F.glu(x)]
    ),
    X,
)
function(
    "Spectrum",
    lambda x: (
        torch.fft.rfft(x).abs(),
        torch.fft.irfft(torch.fft.rfft(x, n=8)),
        torch.stft(x, 4, window=torch.hann_window(4), return_complex=True).abs(),
    ),
    X,
)
function(
    "LinearAlgebra",
    lambda x: (
        torch.linalg.inv(x @ x.mT + torch.eye(5)),
        torch.linalg.vector_norm(x, dim=-1),
        torch.cdist(x, x),
        torch.baddbmm(x @ x.mT, x, x.mT, beta=0.5),
        torch.linalg.det(x @ x.mT),
    ),
    SEQUENCE,
)
function(
    "Masks",
    lambda x: (
        F.scaled_dot_product_attention(x, x, x, attn_mask=torch.ones(5, 5, dtype=torch.bool).tril()),
        F.scaled_dot_product_attention(x, x, x, is_causal=True),
        x.triu(1),
    ),
    SEQUENCE,
)
function(
    "Casts",
    lambda x: (x.to(torch.float64).sum(1), x.half().float(), x.type_as(torch.ones(1, dtype=torch.int64)), x.bool() ^ (x > 0), x.to(torch.bfloat16)),
    X,
)
function("Numbers", lambda x: (x * float("inf"), x.clamp(min=-0.5), x**2, 2**x, 1 - x, x / 3, x.add(x, alpha=2), x.nan_to_num(1.0), x.isnan()), X)
function("Dropout", lambda x: F.dropout(x, training=False).flatten().sum() + x.amax(), X)
function("OneHot", lambda i: (F.one_hot(i, 11), F.one_hot(i, 11).sum(1).argmax(-1), torch.bincount(i.flatten(), minlength=11)), IDS)
function("ChannelsLast", lambda x: F.conv2d(x.contiguous(memory_format=torch.channels_last), torch.ones(2, 3, 3, 3)), IMAGE)
function(
    "Losses",
    lambda x, y: (F.cross_entropy(x, y), F.mse_loss(x, x * 0), F.kl_div(x.log_softmax(1), x.softmax(1), reduction="batchmean")),
    X,
    torch.tensor([1, 3]),
)
function("Meshgrid", lambda x: (torch.meshgrid(x[0], x[1, :2], indexing="ij"), torch.cartesian_prod(x[0, :2], x[1, :3]), torch.tril_indices(3, 3)), X)
function("SameTwice", lambda x: (x, x, x[0]), X)

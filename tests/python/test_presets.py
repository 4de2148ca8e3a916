"""Goal: instances of a preset are models of their own: two seeds share no block, one seed gives the same bytes, and the architecture computes
what transformers computes. Method: the architectures in small, laid out and hashed as a deploy does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cenote import deploy, presets
from cenote.export import export_model


def _bert(_length: int) -> torch.nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=500, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, attn_implementation="sdpa")
    return presets._Hidden(BertModel(config, add_pooling_layer=False))


def _gpt2(_length: int) -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return presets._Logits(GPT2LMHeadModel(GPT2Config(vocab_size=500, n_embd=32, n_layer=2, n_head=2, attn_implementation="sdpa")))


def _blocks(name: str, seed: int) -> tuple[str, set[str]]:
    """The revision, and every block of it: weights, files and manifest."""
    source = presets.make(name, seed)
    model = export_model(source.module, source.inputs, name=name, sources=source.sources, files=source.files)
    assert not model.warnings
    prepared = deploy.prepare(model)
    return prepared.record["digest"], set(prepared.blocks)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    def use(name: str, build: Callable[[int], torch.nn.Module]) -> None:
        monkeypatch.setitem(presets.SEEDED, name, presets.Preset(build, length=16, vocabulary=500))

    use("bert_base", _bert)
    use("gpt2", _gpt2)


@pytest.mark.parametrize("name", ["resnet18", "bert_base", "gpt2"])
def test_seeds_share_no_block_and_one_seed_is_one_revision(small: None, name: str) -> None:
    digest, blocks = _blocks(name, 0)
    _, others = _blocks(name, 1)
    assert not blocks & others
    assert _blocks(name, 0)[0] == digest


def test_positions_that_are_computed_are_those_of_the_architecture(small: None) -> None:
    source = presets.make("bert_base", 3)
    (ids,) = source.inputs
    with torch.no_grad():
        assert torch.equal(source.module(ids), source.module.model(input_ids=ids).last_hidden_state)

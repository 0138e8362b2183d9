"""Blocked weights: the same products, each weight once, and undone where a model's code reads a weight itself."""

import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from generation import onednn_linear
from generation.generator import Generator
from generation.onednn_linear import block_weights

needs_kernels = pytest.mark.skipif(not onednn_linear._has_kernels(), reason="oneDNN has no kernels for this CPU")


def generator(tied: bool = True) -> Generator:
    torch.manual_seed(0)
    sizes = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, attention_bias=True)
    config.tie_word_embeddings = tied
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)
    model.generation_config.eos_token_id = [95]
    return Generator(model, (95,), 0)


def logits(made: Generator, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = made.model(ids).logits
    return found


@needs_kernels
@pytest.mark.parametrize("tied", [True, False])
def test_a_model_with_blocked_weights_computes_the_same(tied: bool) -> None:
    made = generator(tied)
    batches = [torch.randint(0, 96, shape) for shape in ((1, 1), (1, 40), (16, 1), (3, 7))]
    expected = [logits(made, ids) for ids in batches]
    assert block_weights(made)
    for ids, truth in zip(batches, expected, strict=True):
        torch.testing.assert_close(logits(made, ids), truth, rtol=1e-4, atol=1e-4)
    layers = [layer for layer in made.model.modules() if isinstance(layer, torch.nn.Linear)]
    plain = [layer for layer in layers if not layer.weight.is_mkldnn]
    assert plain == ([made.model.lm_head] if tied else [])
    assert layers[0](torch.empty(2, 0, 32)).shape == (2, 0, 32), "experts get no tokens now and then"


@needs_kernels
def test_weights_that_a_models_code_reads_itself_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    made = generator()
    layer = made.model.model.layers[1].mlp
    monkeypatch.setattr(layer, "forward", lambda x: functional.linear(layer.up_proj(x), layer.down_proj.weight[:]))
    before = {name: weight.clone() for name, weight in made.model.named_parameters()}
    assert not block_weights(made)
    after = dict(made.model.named_parameters())
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    assert {type(one) for one in made.model.modules() if isinstance(one, torch.nn.Linear)} == {torch.nn.Linear}


def test_nothing_is_blocked_where_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn_linear, "_has_kernels", lambda: False)
    made = generator()
    assert not block_weights(made)
    assert type(made.model.lm_head) is torch.nn.Linear

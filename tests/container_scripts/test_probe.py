"""What the probe finds out about a model before the first step; tests/architectures has its verdict on each family."""

from typing import Any

import pytest
import torch

from conftest_engine import VOCABULARY, random_model, random_packs, with_adapter
from engine.arguments import Arguments
from engine.batches import collate
from engine.failure import TrainingError
from engine.packed_loss import PackedLoss

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 0,
}


def test_a_model_that_sees_the_tokens_to_predict_is_refused() -> None:
    from transformers import BertConfig, BertLMHeadModel

    with pytest.raises(TrainingError, match="bert sees the tokens that it should predict"):
        PackedLoss(with_adapter(BertLMHeadModel(BertConfig(**_SHAPE))), longest=41)


def test_weights_that_are_not_numbers_are_refused_as_such() -> None:
    model = random_model("llama")
    model.model.layers[0].mlp.up_proj.weight.data[3, 4] = float("nan")
    with pytest.raises(TrainingError, match="before any training") as refused:
        PackedLoss(with_adapter(model), longest=41)
    assert "learning_rate" not in refused.value.hint


@pytest.mark.parametrize("architecture", ["bloom", "llama", "qwen3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_fastest_route_is_found_in_every_dtype(architecture: str, dtype: torch.dtype) -> None:
    route = PackedLoss(with_adapter(random_model(architecture).to(dtype)), longest=41).route
    assert (route.attention, route.together, route.head, route.reason) == ("examples", True, "labels", "")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_examples_that_see_each_other_are_found_in_every_dtype(dtype: torch.dtype) -> None:
    from transformers import FalconConfig, FalconForCausalLM

    shape = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FalconForCausalLM(FalconConfig(**shape, initializer_range=0.2)).to(dtype)
    # By positions that begin again, transformers 5.24 tells Falcon's examples apart, and 5.23 does not.
    hook = model.transformer.register_forward_pre_hook
    hook(lambda _, given, named: (given, {**named, "position_ids": None}), with_kwargs=True)
    route = PackedLoss(with_adapter(model), longest=41).route
    assert not route.together
    assert route.reason.startswith("attention examples: ")
    assert "; attention transformers: " in route.reason


@pytest.mark.parametrize(("longest", "together"), [(64, True), (65, False)])
def test_frequencies_that_depend_on_the_row_keep_long_examples_apart(longest: int, together: bool) -> None:
    """Phi-3's longrope has other frequencies for a row with a position beyond its first context, here 64."""
    from transformers import Phi3Config, Phi3ForCausalLM

    rope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 10000.0}
    config = Phi3Config(
        **_SHAPE,
        num_key_value_heads=2,
        max_position_embeddings=256,
        original_max_position_embeddings=64,
        rope_parameters=rope | {"original_max_position_embeddings": 64},
    )
    assert PackedLoss(with_adapter(Phi3ForCausalLM(config)), longest).route.together is together


def test_the_models_own_attention_is_taken_where_it_is_asked_for() -> None:
    route = PackedLoss(with_adapter(random_model("qwen3")), 41, Arguments(engine_attention="transformers")).route
    assert (route.attention, route.together) == ("transformers", True)
    bloom = PackedLoss(with_adapter(random_model("bloom")), 41, Arguments(engine_attention="transformers")).route
    assert (bloom.attention, bloom.together) == ("transformers", False)


def test_a_probe_leaves_no_trace() -> None:
    model = with_adapter(random_model("llama")).train()
    before, parameters = torch.get_rng_state(), [p.detach().clone() for p in model.parameters()]
    PackedLoss(model, longest=41)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert model.get_base_model().training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), parameters, strict=True))


def test_a_batch_one_example_at_a_time_has_the_sum_of_its_examples() -> None:
    model = with_adapter(random_model("bloom"))
    together = PackedLoss(model, 41)
    packs = random_packs(6, [[17, 5, 2], [9]])
    expected, count = together(collate(packs))
    alone = PackedLoss(with_adapter(random_model("bloom")), 41, Arguments(engine_attention="transformers"))
    loss, labels = alone(collate(packs))
    assert labels == count
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)

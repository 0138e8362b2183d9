"""Every family of models: the probe's verdict, and the equalities that make a training and its endpoint right.

Each against plain transformers in float32, one example at a time: the packed loss and gradient, merged logits equal
the adapter's, no example of a pack influences another, and what is served is the greedy answer.
"""

import json
import math
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, LONGEST, Family, family_id, random_family_model
from safetensors.torch import load_file
from torch.nn import functional
from transformers.masking_utils import create_causal_mask
from transformers.models.mistral import modeling_mistral

import inference
from conftest_engine import examples_of, random_packs
from engine.arguments import Arguments
from engine.base_memory import shareable
from engine.batches import IGNORED, LABELLED, collate
from engine.failure import TrainingError
from engine.memory import estimate
from engine.merge import merge, try_merge
from engine.model import add_adapter
from engine.packed_loss import PackedLoss
from engine.packing_check import likely_route
from engine.routes import accepted_inputs
from engine.weight_storage import codes_of, keep_codes
from generation import scheduling
from generation.kv_cache import states_of
from generation.rows import Row
from shared.lora_targets import TargetError, resolve_targets, stacked_experts, targets_of
from shared.records import ArtifactRecord, from_json

PACKS = random_packs(3, [[17, 5, 30], [LONGEST, 2, 9]])
VERDICTS = {"packed": ("examples", True), "own": ("transformers", True), "single": ("transformers", False)}

pytestmark = pytest.mark.slow


def each_family() -> list[Any]:
    """The families as parameters; those that are not fast are marked for `make sweep`."""
    return [
        pytest.param(family, id=family_id(family), marks=() if family.fast else pytest.mark.sweep)
        for family in FAMILIES
    ]


def adapted(model: Any, family: Family, adapter: str) -> Any:
    """`model` under an adapter of random values."""
    model.requires_grad_(False)
    arguments = Arguments(lora_r=4, lora_alpha=8, lora_dropout=0.0, engine_adapter=adapter)
    found = add_adapter(model, arguments, resolve_targets(model, family.targets))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in found.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return found.eval()


def logits_of(causal: Any, ids: list[int]) -> torch.Tensor:
    """transformers' own logits of one example: (tokens, vocabulary)."""
    inputs = accepted_inputs(causal, input_ids=torch.tensor([ids]), use_cache=False)
    found: torch.Tensor = causal(**inputs).logits[0]
    return found


def plain_loss(adapted_model: Any) -> tuple[torch.Tensor, int]:
    """The summed loss of all examples by plain transformers, and the number of labels."""
    total, count = torch.zeros(()), 0
    for ids, prompt in examples_of(PACKS):
        labels = torch.tensor(ids[1:])
        labels[: prompt - 1] = IGNORED
        logits = logits_of(adapted_model.get_base_model(), ids)[:-1]
        total = total + functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        count += len(ids) - prompt
    return total, count


@pytest.mark.parametrize("family", each_family())
def test_the_probe_finds_a_route_whose_loss_and_gradient_are_right(family: Family, tmp_path: Path) -> None:
    plain, packed = (adapted(random_family_model(family), family, adapter) for adapter in ("peft", "fused"))
    packed.config.save_pretrained(tmp_path)
    likely = likely_route(tmp_path, "examples", LONGEST)
    attention, together = VERDICTS[family.route]
    assert likely.together is together
    assert likely.attention == attention or family.kind == "llama4_text", "whose router is no thin layer"
    expected, count = plain_loss(plain)
    (expected / count).backward()

    loss_of = PackedLoss(packed, LONGEST, sample=PACKS[0]["input_ids"])
    route = loss_of.route
    assert (route.attention, route.together) == VERDICTS[family.route], route.reason
    assert route.head == family.head
    loss, labels = loss_of(collate(PACKS))
    (loss / labels).backward()

    assert labels == count
    assert (loss / labels).item() == pytest.approx((expected / count).item(), abs=1e-5)
    gradients, expected_gradients = (
        torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None]) for m in (packed, plain)
    )
    assert (gradients - expected_gradients).norm() < 1e-4 * expected_gradients.norm()

    changed = [{**pack, "input_ids": [*pack["input_ids"]]} for pack in PACKS]
    changed[0]["input_ids"][17:22] = [7, 8, 9, 10, 11]
    with torch.no_grad():
        before, after = (loss_of(without_second_example(packs))[0].item() for packs in (PACKS, changed))
    assert before == pytest.approx(after, abs=1e-5)


@pytest.mark.sweep
@pytest.mark.parametrize("family", FAMILIES, ids=family_id)
def test_layers_are_called_and_their_weights_not_read(family: Family) -> None:
    """So a base model can lie in main memory, from where its codes are fetched; docs/scale.md has the others."""
    losses = []
    for is_elsewhere in (False, True):
        model = random_family_model(family).requires_grad_(False)
        for name in shareable(model) if is_elsewhere else ():
            weight = model.get_parameter(name)
            codes = codes_of(weight).clone()
            weight.fetch = partial(map, codes.__getitem__)
            keep_codes(weight, torch.full_like(codes, math.nan))
        try:
            losses.append(PackedLoss(adapted(model, family, "fused"), LONGEST)(collate(PACKS))[0].item())
        except TrainingError:
            losses.append(math.nan)
    reads_weights = family_id(family) in ("mamba", "falcon_mamba", "jamba")
    assert math.isnan(losses[1]) if reads_weights else losses[1] == pytest.approx(losses[0], rel=1e-6)


def without_second_example(packs: list[dict[str, list[int]]]) -> dict[str, Any]:
    """The first pack as a batch whose second example, tokens 17 to 21, has no label."""
    batch = collate(packs[:1])
    batch["labels"][0, 17:22] = IGNORED
    batch["rows"] = torch.nonzero(batch["labels"][0, 1:] != IGNORED).squeeze(1)
    batch[LABELLED][1] = 0
    return batch


@pytest.mark.parametrize("family", each_family())
def test_the_merged_model_writes_what_the_adapter_writes(family: Family, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base, output = tmp_path / "base", tmp_path / "merged"
    output.mkdir()
    random_family_model(family).save_pretrained(base)
    loaded = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = adapted(loaded, family, "peft")
    try_merge(base, model)
    model.save_pretrained(tmp_path / "adapter")
    merge(base, tmp_path / "adapter", output)
    loaded.config.save_pretrained(output)
    merged = AutoModelForCausalLM.from_pretrained(output, dtype=torch.float32).eval()
    ids, _ = examples_of(PACKS)[0]
    with torch.no_grad():
        expected, untrained = logits_of(model.get_base_model(), ids), logits_of(loads(base), ids)
        torch.testing.assert_close(logits_of(merged, ids), expected, atol=1e-4, rtol=0)
    assert not torch.allclose(untrained, expected, atol=1e-4)


def loads(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def with_larger_weights(model: Any) -> Any:
    """Weights so large that every earlier token sways the next one. In a new model, little but the last one does."""
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.nn.Parameter) and weight.ndim == 2:
            weight.data *= 10
    return model


def family_with_experts(kind: str) -> Family:
    """A family whose adapter is on all stacked experts."""
    (family,) = (family for family in FAMILIES if family.kind == kind)
    experts = stacked_experts(random_family_model(family))
    return replace(family, targets=tuple(sorted({".".join(path.split(".")[-2:]) for path in experts})))


STACKED = ("granitemoe", "llama4_text", "jetmoe", "deepseek_v2")


@pytest.mark.parametrize("kind", ["mixtral", "gpt_oss", *(pytest.param(k, marks=pytest.mark.sweep) for k in STACKED)])
def test_adapters_of_stacked_experts_train_and_merge_as_pefts_do(kind: str, tmp_path: Path) -> None:
    """Merged weights are equal bit for bit. The model's files hold a tensor for each expert, or stacked ones."""
    family = family_with_experts(kind)
    test_the_probe_finds_a_route_whose_loss_and_gradient_are_right(family, tmp_path / "config")
    test_the_merged_model_writes_what_the_adapter_writes(family, tmp_path)
    from peft import PeftModel

    peft = PeftModel.from_pretrained(loads(tmp_path / "base"), tmp_path / "adapter")
    peft.merge_and_unload().save_pretrained(tmp_path / "peft")
    ours, theirs, base = (load_file(tmp_path / name / "model.safetensors") for name in ("merged", "peft", "base"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(not torch.equal(ours[name], base[name]) for name in ours)


@pytest.mark.parametrize("wrong", [{"dora": True}, {"dropout": 0.1}], ids=str)
def test_stacked_experts_are_refused_with_dropout_and_dora(wrong: dict[str, Any]) -> None:
    family = family_with_experts("mixtral")
    settings = {"dropout": 0.0, "dora": False} | wrong
    with pytest.raises(TargetError, match=r"experts\.\w+ holds all experts of a layer") as refused:
        targets_of(random_family_model(family), family.targets, **settings)
    assert ("dora: false" if "dora" in wrong else "dropout: 0") in refused.value.hint


def test_a_target_that_is_not_there_is_refused_with_the_names_that_work() -> None:
    """`w1` is what the files call it; transformers stacks it with others."""
    (family,) = (family for family in FAMILIES if family.kind == "mixtral")
    model = random_family_model(family)
    with pytest.raises(TargetError, match="no linear layer of mixtral is called w1") as refused:
        resolve_targets(model, ("o_proj", "w1"))
    names = refused.value.hint.removeprefix("lora.targets can be: ").split(", ")
    assert {"o_proj", "experts.gate_up_proj", "experts.down_proj"} <= set(names)
    for name in names:
        assert resolve_targets(model, (name,)) == [name]


@pytest.mark.parametrize(
    ("kind", "wanted", "unwanted"),
    [
        ("ctrl", {"Wq", "ffn.0", "ffn.2"}, {"0", "2"}),  # a block is called 0 too
        ("zamba2", {"in_proj", "out_proj"}, {"0"}),
        ("falcon_h1", {"in_proj", "o_proj"}, {"out_proj"}),
        ("phimoe", {"q_proj"}, {"router"}),  # a kind of linear layer that chooses experts
        ("falcon", {"query_key_value", "dense"}, {"lm_head"}),
    ],
)
def test_all_linear_names_what_peft_adapts(kind: str, wanted: set[str], unwanted: set[str]) -> None:
    """All else of these names would end the job when its model is loaded, with PEFT's ValueError."""
    (family, *_) = (family for family in FAMILIES if family.kind == kind)
    model, family = random_family_model(family), replace(family, targets=("all-linear",))
    names = set(resolve_targets(model, family.targets))
    assert wanted <= names
    assert not unwanted & names
    adapted(model, family, "peft")


def test_what_peft_refuses_of_mamba_is_refused_before() -> None:
    (family,) = (family for family in FAMILIES if family.kind == "mamba2")
    with pytest.raises(TargetError, match="no linear layer of mamba2 is called out_proj"):
        resolve_targets(random_family_model(family), ("out_proj",))


class Numbers:
    """Stands for a tokenizer whose texts are token ids: `5 17 9`."""

    eos_token_id, pad_token_id = 2, 0

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [int(word) for word in text.split()]}

    def batch_decode(self, rows: list[list[int]], **_: Any) -> list[str]:
        return [" ".join(map(str, row)) for row in rows]


def answers(served: inference.Served, prompts: list[list[int]]) -> list[str]:
    """The answers to one request, of four tokens each."""
    request = {"inputs": [" ".join(map(str, ids)) for ids in prompts], "parameters": {"max_new_tokens": 4}}
    data = inference.input_fn(json.dumps(request), "application/json")
    return [answer["generated_text"] for answer in inference.predict_fn(data, served)]


def arriving_answers(served: inference.Served, prompts: list[list[int]]) -> list[str]:
    """The same answers, where one more prompt arrives with every token."""
    scheduler = scheduling.Scheduler(served.generator)
    late = iter(prompts)
    rows: list[Row] = []

    def arrive(_row: Row | None = None) -> None:
        new = [Row(prompt, 4, {"do_sample": False}, lambda: False, arrive) for prompt in islice(late, 1)]
        rows.extend(new)
        scheduler.add(new)

    arrive()
    with torch.no_grad():
        scheduler.run()
    return [" ".join(map(str, row.completion)) for row in rows]


def greedy_answers(causal: Any, prompts: list[list[int]]) -> list[str]:
    """The likeliest next tokens by transformers without cache, padding or batch, up to EOS."""
    found = []
    with torch.no_grad():
        for prompt in prompts:
            tokens: list[int] = []
            while len(tokens) < 4 and 2 not in tokens:
                tokens.append(int(logits_of(causal, prompt + tokens)[-1].argmax()))
            found.append(" ".join(str(token) for token in tokens if token != 2))
    return found


@pytest.mark.parametrize("family", each_family())
def test_the_served_answers_are_plain_greedy_ones(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four prompts are batched and read in pieces, where the model allows that: in one request, and as they arrive."""
    monkeypatch.setattr(scheduling, "PIECE", 8)
    causal = with_larger_weights(random_family_model(family))
    prompts = [ids for ids, _ in examples_of(PACKS)][:4]
    expected = greedy_answers(causal, prompts)
    served = inference.serve(causal, Numbers(), from_json(ArtifactRecord, "{}"))
    sharing = served.generator.sharing
    found = "batched" if sharing.rows else "alone", sharing.pieces, sharing.joins
    assert found == (family.served, family.pieces, family.joins)
    assert answers(served, prompts) == expected
    assert arriving_answers(served, prompts) == expected


@pytest.mark.parametrize("kind", ["minimax", "jamba", "llama"])
def test_half_precision_hides_no_state(kind: str) -> None:
    """Its rounding moves logits as far as MiniMax's state, which runs over padding, and Jamba's, lost after a piece."""
    (family,) = (family for family in FAMILIES if family.kind == kind)
    found = inference.serve(
        random_family_model(family).bfloat16(), Numbers(), from_json(ArtifactRecord, "{}")
    ).generator.sharing
    assert (found.rows, found.pieces, found.joins) == (family.served == "batched", family.pieces, family.joins)


@pytest.mark.parametrize("kind", ["bloom", "deepseek_v3", "jamba", "qwen3_next"])
def test_what_a_row_keeps_is_measured(kind: str) -> None:
    """Keys, values and states of a longer row than the one that was measured; states are the same at any length."""
    (family,) = (family for family in FAMILIES if family.kind == kind)
    served = inference.serve(random_family_model(family), Numbers(), from_json(ArtifactRecord, "{}"))
    ids = torch.arange(3, 23)[None]
    cache = served.model.generate(input_ids=ids, max_new_tokens=8, return_dict_in_generate=True).past_key_values
    kept = [getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values")]
    states = [state for layer in cache.layers for states in states_of(layer) for state in states.values()]
    sharing, tokens = served.generator.sharing, cache.get_seq_length()
    assert tokens > 20
    assert tokens * sharing.token_bytes == sum(one.nbytes for one in kept if one is not None)
    assert sharing.state_bytes == sum(state.nbytes for state in states if state is not None)
    assert bool(sharing.state_bytes) is (kind in ("jamba", "qwen3_next"))


def test_no_prompt_joins_where_a_state_is_in_no_cache() -> None:
    """RecurrentGemma keeps it in the model. Tokens of padding, whose embeddings are zeros, do not show it."""
    (family,) = (family for family in FAMILIES if family.kind == "recurrent_gemma")
    causal = with_larger_weights(random_family_model(family))
    causal.get_input_embeddings().weight.data[0] = 0
    assert not inference.serve(causal, Numbers(), from_json(ArtifactRecord, "{}")).generator.sharing.joins


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 20, "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("dtype", "settings"),
    [
        (torch.float32, {}),
        (torch.bfloat16, {}),
        (torch.float32, {"max_position_embeddings": 20, "rope_parameters": YARN}),
    ],
    ids=["float32", "bfloat16", "stretched positions"],
)
def test_no_prompt_joins_where_only_the_cache_knows_a_window(
    dtype: torch.dtype, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window is longer than the prompts that a model is tried with."""
    family = Family("mistral", "own", settings={"sliding_window": 20, **settings})
    causal = with_larger_weights(random_family_model(family)).to(dtype)
    assert inference.serve(causal, Numbers(), from_json(ArtifactRecord, "{}")).generator.sharing.joins
    monkeypatch.setattr(modeling_mistral, "create_sliding_window_causal_mask", create_causal_mask)
    assert not inference.serve(causal, Numbers(), from_json(ArtifactRecord, "{}")).generator.sharing.joins


@pytest.fixture
def longrope() -> Any:
    """Phi-3's longrope has other frequencies for a row with a position beyond its first context, here 64."""
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [9.0] * 4, "rope_theta": 10000.0}
    limit = {"original_max_position_embeddings": 64}
    family = Family("phi3", "packed", settings={**limit, "rope_parameters": rope | limit})
    return with_larger_weights(random_family_model(family))


def test_rows_whose_length_changes_their_positions_are_answered_alone(
    longrope: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "PIECE", 8)
    served = inference.serve(longrope, Numbers(), from_json(ArtifactRecord, "{}"))
    prompts = [pack["input_ids"] for pack in random_packs(4, [[20], [58], [62], [70], [30]])]
    assert answers(served, prompts) == greedy_answers(longrope, prompts)


def test_a_row_of_other_positions_leaves_nothing_to_the_next_one(longrope: Any) -> None:
    """A prompt of 70 tokens has read what the next one, of 30, begins with."""
    served = inference.serve(longrope, Numbers(), from_json(ArtifactRecord, "{}"))
    [long] = [pack["input_ids"] for pack in random_packs(4, [[70]])]
    rows = [Row(prompt, 4, {"do_sample": False}, lambda: False) for prompt in (long, long[:30])]
    scheduler = scheduling.Scheduler(served.generator)
    scheduler.add(rows)
    with torch.no_grad():
        scheduler.run()
    found = [" ".join(map(str, row.completion)) for row in rows]
    assert found == greedy_answers(longrope, [long, long[:30]])


@pytest.mark.parametrize("family", each_family())
@pytest.mark.parametrize(
    "dtype", [pytest.param(torch.float32, marks=pytest.mark.sweep), torch.bfloat16], ids=["float32", "bfloat16"]
)
def test_the_memory_of_its_training_can_be_estimated(family: Family, dtype: torch.dtype, tmp_path: Path) -> None:
    model = random_family_model(family)
    model.config.save_pretrained(tmp_path)
    weights = sum(parameter.numel() for parameter in model.parameters())
    targets = resolve_targets(model, family.targets)
    memory, _ = estimate(tmp_path, Arguments(quantization="none", lora_r=4), targets, [9, 6], 4, dtype)
    assert memory.weights == weights * dtype.itemsize
    trained = sum(p.numel() for p in adapted(model, family, "peft").parameters() if p.requires_grad)
    assert memory.adapter == 16 * trained  # value, gradient and two moments, float32 each
    assert memory.activations > 15 * 32 * dtype.itemsize  # the body's output, and more

"""The engine's fast path against plain transformers: one example at a time, eager attention, full logits, float32."""

import gc
import weakref
from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from conftest_engine import ARCHITECTURES, examples_of, random_model, random_packs, with_adapter
from engine.alibi import alibi_factors, alibi_slopes
from engine.arguments import Arguments
from engine.batches import IGNORED, collate
from engine.failure import TrainingError
from engine.kernels import AttentionScores, Examples, causal_blocks, flex
from engine.loss import CHUNK_ROWS, head_loss
from engine.packed_loss import PackedLoss

LENGTHS = [[17, 5, 30], [41, 2, 9]]


def plain_loss_and_gradients(adapted: torch.nn.Module, packs: list, loss_on: str) -> tuple[float, dict]:  # type: ignore[type-arg]
    """Mean loss over labelled tokens and adapter gradients, example by example through model(labels=...)."""
    total, count = torch.zeros(()), 0
    for tokens, prompt in examples_of(packs):
        ids = torch.tensor([tokens])
        labels = ids.clone()
        labels[:, : prompt if loss_on == "completion" else 1] = IGNORED
        labelled = int((labels[:, 1:] != IGNORED).sum())
        if labelled:
            total = total + adapted(input_ids=ids, labels=labels).loss * labelled
            count += labelled
    (total / count).backward()
    return (total / count).item(), {n: p.grad.clone() for n, p in adapted.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("loss_on", ["completion", "all"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_loss_and_gradients_equal_those_of_single_examples(architecture: str, loss_on: str) -> None:
    packs = random_packs(3, LENGTHS)
    plain = with_adapter(random_model(architecture), adapter="peft")
    plain.get_base_model().set_attn_implementation("eager")
    expected, expected_gradients = plain_loss_and_gradients(plain, packs, loss_on)

    packed = with_adapter(random_model(architecture))
    loss, count = PackedLoss(packed, longest=41)(collate(packs, loss_on))
    (loss / count).backward()

    assert (loss / count).item() == pytest.approx(expected, abs=1e-5)
    gradients = {n: p.grad for n, p in packed.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_loss_in_bf16_is_near_that_in_float32(architecture: str) -> None:
    """Loss within 0.5%, all gradients together within 5% of their length."""

    def found(dtype: torch.dtype) -> tuple[float, torch.Tensor]:
        model = with_adapter(random_model(architecture).to(dtype))
        loss, count = PackedLoss(model, longest=41)(collate(random_packs(3, LENGTHS)))
        (loss / count).backward()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        assert {parameter.dtype for parameter in trained} == {torch.float32}
        return (loss / count).item(), torch.cat([p.grad.flatten() for p in trained if p.grad is not None])

    (expected, gradient), (loss, other) = found(torch.float32), found(torch.bfloat16)
    assert loss == pytest.approx(expected, rel=5e-3)
    assert (other - gradient).norm() < 0.05 * gradient.norm()


@pytest.mark.parametrize("architecture", ["bloom", "llama"])
def test_changing_one_example_does_not_change_its_neighbours(architecture: str) -> None:
    packs = random_packs(4, [[20, 20, 20]])
    model = with_adapter(random_model(architecture)).eval()
    loss = PackedLoss(model, longest=20)

    def hidden() -> torch.Tensor:
        loss(batch := collate(packs))
        body = getattr(model.get_base_model(), model.get_base_model().base_model_prefix)
        out: torch.Tensor = body(input_ids=batch["input_ids"], position_ids=batch["position_ids"]).last_hidden_state
        return out

    with torch.no_grad():
        before = hidden()
        packs[0]["input_ids"][20:40] = [7] * 20
        after = hidden()
    assert torch.equal(before[:, :20], after[:, :20])
    assert torch.equal(before[:, 40:], after[:, 40:])
    assert not torch.equal(before[:, 20:40], after[:, 20:40])


@pytest.mark.parametrize("architecture", ["bloom", "llama"])
def test_no_tensor_has_a_value_for_each_pair_of_tokens(architecture: str) -> None:
    """Such as a mask, which at 16,384 tokens of a batch would be half a gigabyte in bf16."""
    largest = 0

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            largest = max([largest, *(part.numel() for part in tree_leaves(out) if isinstance(part, torch.Tensor))])
            return out

    lengths = [10] * 80
    loss = PackedLoss(with_adapter(random_model(architecture)), longest=10)
    with Sizes():  # type: ignore[no-untyped-call]
        loss(collate(random_packs(5, [lengths])))[0].backward()
    assert largest < sum(lengths) ** 2


def test_soft_caps_keep_transformers_attention_and_windows_do_not() -> None:
    def attention(architecture: str) -> str:
        return PackedLoss(with_adapter(random_model(architecture)), longest=41).route.attention

    assert attention("mistral") == "examples"
    assert attention("gemma2") == "transformers"


@pytest.mark.parametrize(
    ("layer", "of_mask", "reason"),
    [
        (None, 20, "a layer asks for a window of None tokens, and its mask has one of 20"),
        (20, None, "a layer asks for a window of 20 tokens, and its mask has one of None"),
        (20, 24, "a layer asks for a window of 20 tokens, and its mask has one of 24"),
        (20, 20, ""),
        (None, None, ""),
        (41, None, ""),
    ],
)
def test_a_window_is_the_masks_or_the_model_keeps_its_attention(
    layer: int | None, of_mask: int | None, reason: str
) -> None:
    """The examples that a model is tried with are shorter than its window, so their losses would say nothing."""
    model = random_model("qwen3")
    model.config.sliding_window, model.model.has_sliding_layers = of_mask, of_mask is not None
    model.config.layer_types = ["sliding_attention" if of_mask else "full_attention"] * 2
    for module in model.model.layers:
        module.self_attn.sliding_window = layer
    found = PackedLoss(with_adapter(model), longest=41).route
    assert found.attention == ("transformers" if reason else "examples")
    assert reason in found.reason


@pytest.mark.parametrize("kv_heads", [6, 2])
@pytest.mark.parametrize("window", [1, 7, 128, 199])
def test_windows_equal_one_mask_for_the_whole_row(kv_heads: int, window: int) -> None:
    """Of examples that are longer and shorter than the window; the values and all gradients in float32."""
    (query, key, value), examples = heads_and_examples(kv_heads=kv_heads)
    inputs = [tensor.requires_grad_() for tensor in (query, key, value)]
    found = causal_blocks(query, key, value, examples, AttentionScores(window=window))
    lengths = torch.tensor(examples.lengths)
    example, place = torch.arange(len(lengths)).repeat_interleave(lengths), torch.arange(int(lengths.sum()))
    back = place[:, None] - place
    seen = (example[:, None] == example) & (back >= 0) & (back < window)
    expected = functional.scaled_dot_product_attention(query, key, value, seen, enable_gqa=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    for one, other in zip(
        torch.autograd.grad(found, inputs, upstream), torch.autograd.grad(expected, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_long_alibi_examples_equal_eager_attention() -> None:
    """Their positions are written in two digits (alibi.alibi_factors)."""
    packs = random_packs(5, [[1100, 513, 3]])
    plain, packed = with_adapter(random_model("bloom"), adapter="peft"), with_adapter(random_model("bloom"))
    with torch.no_grad():
        loss, count = PackedLoss(packed, longest=1100)(collate(packs))
        expected = 0.0
        for tokens, prompt in examples_of(packs):
            ids = torch.tensor([tokens])
            labels = ids.clone()
            labels[:, :prompt] = IGNORED
            expected += plain(input_ids=ids, labels=labels).loss.item() * (len(tokens) - prompt)
    assert (loss / count).item() == pytest.approx(expected / count, abs=1e-5)


@pytest.mark.parametrize("heads", [1, 4, 6, 12, 32, 40])
def test_alibi_slopes_are_blooms(heads: int) -> None:
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)[:, 0, 1]
    torch.testing.assert_close(alibi_slopes(heads), theirs, atol=0, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_alibi_in_bf16_is_as_exact_as_in_float32(dtype: torch.dtype) -> None:
    """Each bias is exact to 2^-20, where bf16 itself rounds to 2^-9."""
    slopes, positions = alibi_slopes(32) * 128**0.5, torch.arange(2048)[None]
    of_query, of_key = alibi_factors(slopes, positions, dtype)
    assert of_query.dtype == of_key.dtype == dtype
    found = (of_query.double() @ of_key.double().transpose(2, 3))[0, :, 0]
    torch.testing.assert_close(found, slopes.double()[:, None] * positions, rtol=2**-20, atol=0)


def heads_and_examples(device: str = "cpu", kv_heads: int = 6) -> tuple[list[torch.Tensor], Examples]:
    """Random query, key, value of heads of 16, and examples on both sides of a block's 128 tokens."""
    lengths = [200, 3, 128, 90]
    positions = torch.cat([torch.arange(length) for length in lengths])[None].to(device)
    examples = Examples()
    examples.set(lengths, positions)
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, heads, sum(lengths), 16) for heads in (6, kv_heads, kv_heads)]
    return [torch.randn(shape, generator=generator).to(device) for shape in shapes], examples


@pytest.mark.parametrize(("kv_heads", "alibi"), [(6, True), (6, False), (2, False)])
def test_flex_attention_equals_one_call_per_example(kv_heads: int, alibi: bool) -> None:
    """A CPU runs FlexAttention uncompiled and forward only: float32, within 1e-5."""
    (query, key, value), examples = heads_and_examples(kv_heads=kv_heads)
    scores = AttentionScores(slopes=alibi_slopes(6) if alibi else None)
    expected = causal_blocks(query, key, value, examples, scores)
    torch.testing.assert_close(flex(query, key, value, examples, scores), expected, atol=1e-5, rtol=1e-5)


def test_values_may_be_narrower_than_keys() -> None:
    """As in multi-head latent attention."""
    (query, key, value), examples = heads_and_examples("cpu", 6)
    whole = causal_blocks(query, key, value, examples, AttentionScores())
    found = causal_blocks(query, key, value[..., :8], examples, AttentionScores())
    torch.testing.assert_close(found, whole[..., :8])


@pytest.mark.parametrize("architecture", ["bloom", "llama", "gemma2"])
def test_nothing_holds_a_model_once_its_training_is_over(architecture: str) -> None:
    """The merged model and the base model's summaries need its memory."""
    model = with_adapter(random_model(architecture))
    loss_of = PackedLoss(model, 16)
    with loss_of.generating():
        pass
    seen = weakref.ref(model.get_base_model())
    del model, loss_of
    gc.collect()
    assert seen() is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_flex_attention_is_refused_without_a_gpu() -> None:
    with pytest.raises(TrainingError, match="trains on a GPU only"):
        PackedLoss(with_adapter(random_model("llama")), 41, Arguments(engine_attention="flex"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="FlexAttention goes backward on a GPU only")
@pytest.mark.parametrize(("kv_heads", "alibi"), [(6, True), (6, False), (2, False)])
def test_flex_attention_has_the_gradients_of_one_call_per_example(kv_heads: int, alibi: bool) -> None:
    """bf16 on the GPU against float32: 2% of the largest gradient."""
    tensors, examples = heads_and_examples("cuda", kv_heads)
    scores = AttentionScores(slopes=alibi_slopes(6).cuda() if alibi else None)
    upstream = torch.randn_like(tensors[0])
    gradients = []
    for attend, dtype in ((causal_blocks, torch.float32), (causal_blocks, torch.bfloat16), (flex, torch.bfloat16)):
        query, key, value = inputs = [tensor.to(dtype).requires_grad_() for tensor in tensors]
        examples.set(examples.lengths, examples.positions)
        attend(query, key, value, examples, scores).backward(upstream.to(dtype))
        gradients.append([tensor.grad.float() for tensor in inputs if tensor.grad is not None])
    for expected, *others in zip(*gradients, strict=True):
        for found in others:
            torch.testing.assert_close(found, expected, atol=0.02 * expected.abs().max().item(), rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="FlexAttention is compiled on a GPU only")
def test_flex_attention_takes_short_rows_whose_heads_share_keys() -> None:
    """Rows below 128 tokens would go to the kernel for decoding, which has no tile for 31 tokens of eight heads."""
    query, key, value = (torch.randn(1, heads, 31, 16, device="cuda").bfloat16() for heads in (8, 1, 1))
    examples = Examples()
    examples.set([11, 13, 7], torch.cat([torch.arange(n) for n in (11, 13, 7)])[None].cuda())
    expected = causal_blocks(query, key, value, examples, AttentionScores())
    found = flex(query, key, value, examples, AttentionScores())
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize(("bias", "dtype"), [(False, torch.float32), (True, torch.float32), (False, torch.bfloat16)])
def test_head_loss_equals_cross_entropy_over_all_rows(bias: bool, dtype: torch.dtype) -> None:
    """bf16 against float32 on the same values: the loss to 1e-3, each gradient to 1% of the largest."""
    torch.manual_seed(0)
    tokens = 2 * CHUNK_ROWS["cpu"] + 100
    head = torch.nn.Linear(16, 300, bias=bias).requires_grad_(False).to(dtype)
    labels = torch.randint(0, 300, (1, tokens))
    labels[0, ::7] = IGNORED
    ours = torch.randn(1, tokens, 16).to(dtype).requires_grad_()
    theirs = ours.detach().float().requires_grad_()

    rows = torch.nonzero(labels[0, 1:] != IGNORED).squeeze(1)
    loss, count = head_loss(ours, head, labels, rows), len(rows)
    (loss / count).backward()
    logits = head.float()(theirs)[0, :-1]
    expected = torch.nn.functional.cross_entropy(logits, labels[0, 1:], ignore_index=IGNORED)
    expected.backward()

    assert ours.grad is not None
    assert theirs.grad is not None
    exact = dtype is torch.float32
    assert (loss / count).item() == pytest.approx(expected.item(), abs=1e-5 if exact else 1e-3)
    largest = theirs.grad.abs().max().item()
    torch.testing.assert_close(
        ours.grad.float(), theirs.grad, atol=1e-7 if exact else 0.01 * largest, rtol=1e-4 if exact else 0
    )


def test_the_logits_of_one_chunk_exist_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[StorageWeakRef] = []

    def linear(*arguments: torch.Tensor) -> torch.Tensor:
        assert all(logits.expired() for logits in seen)
        out = torch.addmm(torch.zeros(()), arguments[0], arguments[1].T)
        seen.append(StorageWeakRef(out.untyped_storage()))
        return out

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    tokens = 3 * CHUNK_ROWS["cpu"]
    head = torch.nn.Linear(16, 300, bias=False).requires_grad_(False)
    hidden = torch.randn(1, tokens, 16, requires_grad=True)
    head_loss(hidden, head, torch.randint(0, 300, (1, tokens)), torch.arange(tokens - 1)).backward()
    assert len(seen) == 3


def test_a_batch_without_labels_has_no_loss_and_no_gradient() -> None:
    head = torch.nn.Linear(16, 300, bias=False).requires_grad_(False)
    hidden = torch.randn(1, 5, 16, requires_grad=True)
    loss = head_loss(hidden, head, torch.full((1, 5), IGNORED), torch.empty(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_collate_restarts_positions_and_masks_prompts() -> None:
    packs = [
        {"input_ids": [1, 2, 3, 4, 5], "example_lengths": [3, 2], "prompt_lengths": [2, 1]},
        {"input_ids": [6, 7], "example_lengths": [2], "prompt_lengths": [1]},
    ]
    batch = collate(packs)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6, 7]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1]]
    assert batch["labels"].tolist() == [[-100, -100, 3, -100, 5, -100, 7]]
    assert batch["rows"].tolist() == [1, 3, 5]
    assert collate(packs, "all")["labels"].tolist() == [[-100, 2, 3, -100, 5, -100, 7]]
    assert batch["example_lengths"] == [3, 2, 2]


@pytest.mark.parametrize("architecture", ["bloom", "llama", "qwen3"])
@pytest.mark.parametrize(
    "switch", [{"engine_head": "all"}, {"engine_attention": "transformers"}, {"engine_adapter": "peft"}]
)
def test_every_engine_switch_gives_the_same_loss_and_gradients(architecture: str, switch: dict[str, Any]) -> None:
    """float32: loss within 1e-5, gradients within 1e-5."""
    packs = random_packs(5, [[17, 30, 9], [24, 11]])

    def found(arguments: Arguments) -> tuple[float, list[torch.Tensor]]:
        model = with_adapter(random_model(architecture), adapter=arguments.engine_adapter).train()
        loss, count = PackedLoss(model, 41, arguments)(collate(packs))
        (loss / count).backward()
        return float(loss / count), [p.grad for p in model.parameters() if p.requires_grad]

    arguments = Arguments(**switch)
    expected, gradients = found(Arguments())
    loss, others = found(arguments)
    assert loss == pytest.approx(expected, abs=1e-5)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)

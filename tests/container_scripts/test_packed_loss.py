"""The engine's fast path against plain transformers: one example at a time, eager attention, full logits, float32."""

from typing import Any

import pytest
import torch

from conftest_engine import ARCHITECTURES, examples_of, random_model, random_packs, with_adapter
from engine.arguments import Arguments
from engine.attention import alibi_slopes, attend_within_examples
from engine.batches import IGNORED, collate
from engine.failure import TrainingError
from engine.loss import CHUNK_ROWS, head_loss
from engine.trainer import PackedLoss

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
    plain = with_adapter(random_model(architecture))
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


def test_architectures_with_windows_or_soft_caps_keep_transformers_attention() -> None:
    assert attend_within_examples(random_model("mistral"), longest=41) is None
    assert attend_within_examples(random_model("mistral"), longest=8) is not None
    assert attend_within_examples(random_model("gemma2"), longest=8) is None


def test_long_alibi_examples_equal_eager_attention() -> None:
    """Longer than one block of queries."""
    packs = random_packs(5, [[1100, 513, 3]])
    plain, packed = with_adapter(random_model("bloom")), with_adapter(random_model("bloom"))
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


@pytest.mark.parametrize("bias", [False, True])
def test_head_loss_equals_cross_entropy_over_all_rows(bias: bool) -> None:
    torch.manual_seed(0)
    tokens = 2 * CHUNK_ROWS["cpu"] + 100
    head = torch.nn.Linear(16, 300, bias=bias).requires_grad_(False)
    labels = torch.randint(0, 300, (1, tokens))
    labels[0, ::7] = IGNORED
    ours = torch.randn(1, tokens, 16, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()

    loss, count = head_loss(ours, head, labels)
    (loss / count).backward()
    expected = torch.nn.functional.cross_entropy(head(theirs)[0, :-1], labels[0, 1:], ignore_index=IGNORED)
    expected.backward()

    assert ours.grad is not None
    assert theirs.grad is not None
    assert (loss / count).item() == pytest.approx(expected.item(), abs=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-7, rtol=1e-4)


def test_a_batch_without_labels_has_no_loss_and_no_gradient() -> None:
    head = torch.nn.Linear(16, 300, bias=False).requires_grad_(False)
    hidden = torch.randn(1, 5, 16, requires_grad=True)
    loss, count = head_loss(hidden, head, torch.full((1, 5), IGNORED))
    loss.backward()
    assert (loss.item(), count) == (0, 0)
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
    assert collate(packs, "all")["labels"].tolist() == [[-100, 2, 3, -100, 5, -100, 7]]
    assert batch["example_lengths"] == [3, 2, 2]


@pytest.mark.parametrize("architecture", ["bloom", "llama", "qwen3"])
@pytest.mark.parametrize("switch", [{"engine_head": "all"}, {"engine_attention": "transformers"}])
def test_a_part_of_the_engine_replaced_by_the_libraries_changes_no_loss_or_gradient(
    architecture: str, switch: dict[str, Any]
) -> None:
    """float32: loss within 1e-5, gradients within 1e-5."""
    packs = random_packs(5, [[17, 30, 9], [24, 11]])

    def found(arguments: Arguments) -> tuple[float, list[torch.Tensor]]:
        model = with_adapter(random_model(architecture)).train()
        loss, count = PackedLoss(model, 41, arguments)(collate(packs))
        (loss / count).backward()
        return float(loss / count), [p.grad for p in model.parameters() if p.requires_grad]

    arguments = Arguments(**switch)
    if architecture == "bloom" and "engine_attention" in switch:
        with pytest.raises(TrainingError, match="would let the examples of a pack see each other"):
            found(arguments)
        return
    expected, gradients = found(Arguments())
    loss, others = found(arguments)
    assert loss == pytest.approx(expected, abs=1e-5)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)

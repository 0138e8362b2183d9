"""Every family of models: the probe's verdict, and the equalities that make a training right.

Each against plain transformers in float32, one example at a time: the packed loss and gradient, merged logits equal
the adapter's, and no example of a pack influences another.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, LONGEST, Family, family_id, random_family_model
from torch.nn import functional

from conftest_engine import examples_of, random_packs
from engine.arguments import Arguments
from engine.batches import IGNORED, collate
from engine.memory import estimate
from engine.merge import merge, try_merge
from engine.model import add_adapter, resolve_targets
from engine.packed_loss import PackedLoss
from engine.routes import accepted_inputs

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
def test_the_probe_finds_a_route_whose_loss_and_gradient_are_right(family: Family) -> None:
    plain, packed = (adapted(random_family_model(family), family, adapter) for adapter in ("peft", "fused"))
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


def without_second_example(packs: list[dict[str, list[int]]]) -> dict[str, Any]:
    """The first pack as a batch whose second example, tokens 17 to 21, has no label."""
    batch = collate(packs[:1])
    batch["labels"][0, 17:22] = IGNORED
    batch["rows"] = torch.nonzero(batch["labels"][0, 1:] != IGNORED).squeeze(1)
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


@pytest.mark.parametrize("family", each_family())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_the_memory_of_its_training_can_be_estimated(family: Family, dtype: torch.dtype, tmp_path: Path) -> None:
    model = random_family_model(family)
    model.config.save_pretrained(tmp_path)
    weights = sum(parameter.numel() for parameter in model.parameters())
    targets = resolve_targets(model, family.targets)
    memory, _ = estimate(tmp_path, Arguments(quantization="none", lora_r=4), targets, [LONGEST, 30], 20, dtype)
    assert memory.weights == weights * dtype.itemsize
    trained = sum(p.numel() for p in adapted(model, family, "peft").parameters() if p.requires_grad)
    assert memory.adapter == 16 * trained  # value, gradient and two moments, float32 each
    assert memory.activations > 71 * 32 * dtype.itemsize  # the body's output, and more

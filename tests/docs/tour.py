"""docs/tour.md: below each `$ command` stands what it prints. `python tests/docs/tour.py` pastes that anew.

What another machine, hour or folder changes is hidden before the page and the output are compared: see `steady`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tour.md"
CHATS = ROOT / "examples" / "chats.csv"
HOME = "/home/ana"  # as the page has it
WRITE = "LORASUM_WRITE_TOUR"  # the variable with which the test writes the page
_BLOCK = re.compile(r"(?ms)^```console\n\$ (?P<command>[^\n]*)\n(?P<output>.*?)^```$")
_PROGRESS = re.compile(r"(?m)^· (?:step \d+/|[\w -]+: \d+%).*\n")  # a line every two seconds
_VOLATILE = [
    (
        re.compile(r"\d+ (?:min|h) \d+ (?:s|min)|[\d.,]+(?: of [\d.,]+)? (?:s|kB|MB|GB|GiB|tokens/s|TFLOP/s)\b"),
        "<amount>",
    ),
    (re.compile(r"\b(?:float32|bfloat16)\b"), "<type>"),
    (re.compile(r"(?:\d{4}-)?\d\d-\d\d \d\d:\d\d(?: UTC)?|\d\d:\d\d UTC"), "<time>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<address>"),
    (re.compile(r"\b[0-9a-f]{8}(?:[0-9a-f]{4})?\b"), "<hash>"),  # the path of the model is part of what is hashed
    (re.compile(r"\b\d+\.\d{3}\b"), "<loss>"),
    (re.compile(r"(?m)^  device .*"), "  device"),
]
_ANSWER = "Ana and Ben will meet at 7."  # of the toy, to everything


def with_outputs(page: str, run: Callable[[str], str]) -> str:
    """The page with what `run` says each command prints, in the page's order."""
    return _BLOCK.sub(lambda block: f"```console\n$ {block['command']}\n{run(block['command'])}```", page)


def steady(page: str) -> str:
    """The page without what differs from run to run: progress, amounts of time and space, dates, ports, hashes, losses,
    and what the CPU computes with."""
    page = _PROGRESS.sub("", page)
    for pattern, name in _VOLATILE:
        page = pattern.sub(name, page)
    return page


def write_toy(folder: Path, tokenizer_dir: Path) -> None:
    """A random Llama in which each token makes one other likely: those of one sentence, one after the other."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    config = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        says = [*tokenizer.encode(f"\n{_ANSWER}"), tokenizer.eos_token_id]
        assert len(set(says)) == len(says), "each token has one that follows it"
        embeddings = torch.nn.functional.normalize(model.model.embed_tokens.weight, dim=1)
        model.model.embed_tokens.weight.copy_(embeddings)
        for before, after in pairwise(says):
            model.lm_head.weight[after] = embeddings[before]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    test = Path(__file__).with_name("test_tour.py")
    sys.exit(subprocess.call([sys.executable, "-m", "pytest", "-q", str(test)], env={**os.environ, WRITE: "1"}))

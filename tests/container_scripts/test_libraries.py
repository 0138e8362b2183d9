"""A training imports what it uses, and not all that is installed."""

import subprocess
import sys
from array import array
from collections.abc import Callable
from pathlib import Path

from forks import Zygote

from engine.libraries import _when_called
from lorasum.data.store import write_split
from lorasum.data.tokenize_pack import Tokens
from lorasum.system import paths

PROGRAM = """
import sys
from importlib.util import find_spec
from pathlib import Path
installed = [name for name in ("boto3", "scipy") if find_spec(name)]
from engine.libraries import import_libraries
import_libraries("none")
import loading, train
from transformers import LlamaConfig, LlamaForCausalLM
from engine import model, trainer
from engine.arguments import Arguments
from engine.packs import load_split, longest_example, pack_sizes
split = load_split(Path(sys.argv[1]), "train")
print(longest_example(split), pack_sizes(split, "all"), split[0], next(iter(split)), file=sys.stderr)
small = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "vocab_size": 9}
model.add_adapter(LlamaForCausalLM(LlamaConfig(**small)), Arguments(quantization="none"), ["q_proj"])
print(*(name for name in ("bitsandbytes", "boto3", "datasets", "pandas", "scipy") if sys.modules.get(name)))
for name in installed:
    __import__(name)
"""


def test_a_training_imports_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    """And what was hidden from transformers can be imported afterwards."""
    write_split(tmp_path / "train", [[Tokens(array("i", [1, 2, 3]), 1)]], 9, "name")
    program = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    assert subprocess.check_output(program, cwd=paths.container_scripts(), text=True).strip() == ""


def test_a_quantized_training_imports_no_compiler(trainings: Zygote, tmp_path: Path) -> None:
    """What trainings are forked from has imported their libraries as they do, for a quantized base."""
    (tmp_path / "told.py").write_text("import sys; print(*(name in sys.modules for name in sys.argv[1:]))")
    asked = ["bitsandbytes.nn", "torch._inductor.compile_fx"]
    assert trainings.start(asked, {}, {}, str(tmp_path / "told.py")).wait().stdout == "True False\n"


def test_a_function_is_compiled_when_it_is_called_and_once() -> None:
    compiled: list[bool] = []

    def compiles(function: Callable[[int], int], dynamic: bool) -> Callable[[int], int]:
        compiled.append(dynamic)
        return function

    twice = _when_called(compiles)(dynamic=False)(lambda number: 2 * number)
    assert compiled == []
    assert [twice(1), twice(2)] == [2, 4]
    assert compiled == [False]

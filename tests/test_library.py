"""lorasum as a library: the notebook of the docs runs, with real processes of the local backend and a stub model."""

import json
import subprocess
import sys
from pathlib import Path

from forks import Zygote
from local_world import copy_stubs

NOTEBOOK = Path(__file__).parents[1] / "examples" / "library.ipynb"
CONFIG = """\
name: tiny
model: {{id: {model}}}
data: {{train: {chats}/train.jsonl, test: {chats}/test.jsonl, max_length: 192}}
predict: {{max_new_tokens: 16, batch_size: 2, timeout: 300}}
"""


def test_its_names_are_there_and_cost_nothing_until_they_are_used() -> None:
    script = (
        "import sys, lorasum\n"
        "print({'pydantic', 'lorasum.results'} & set(sys.modules))\n"
        "print([name for name in lorasum.__all__ if not hasattr(lorasum, name) or name not in dir(lorasum)])\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n[]\n"


def test_a_traceback_says_what_is_wrong_and_what_to_do() -> None:
    script = "import lorasum\nlorasum.load_config({'name': 'x', 'lora': {'rank': 8}})"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stderr
    *_, error, first, second, third, hint = said.splitlines()
    assert error == "lorasum.errors.ConfigError: 3 problems with the config"
    assert "lora.rank" in " ".join((first, second, third))
    assert hint == "hint: `lorasum config schema` describes every key"


def test_the_notebook_runs(tmp_path: Path, tiny_chats: Path, tiny_model_dir: Path, clients: Zygote) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG.format(model=tiny_model_dir, chats=tiny_chats), encoding="utf-8")
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in cells)
    script = tmp_path / "notebook.py"
    script.write_text("\n".join(["".join(cell["source"]) for cell in cells] + ["print(page)"]), encoding="utf-8")
    scripts = copy_stubs(tmp_path / "scripts")
    environ = {"LORASUM_HOME": str(tmp_path / "home"), "CONFIG": str(config), "LORASUM_STUB_SCRIPTS": str(scripts)}
    ended = clients.start([], environ, {}, str(script)).wait()
    assert ended.code == 0, ended.stderr
    assert "tiny" in Path(ended.stdout.strip().splitlines()[-1]).read_text(encoding="utf-8")

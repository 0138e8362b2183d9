"""evaluate: what is scored, what it costs, and what is kept."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judge_server import GOOD, JudgeServer
from memory_backend import InMemoryBackend, RecordingReporter, context

from lorasum.backends.records import EndpointRef
from lorasum.commands.deploy import deploy
from lorasum.commands.evaluate import evaluate
from lorasum.commands.train import train
from lorasum.config.schema import Config
from lorasum.data.settings import Settings
from lorasum.data.sources import open_sources
from lorasum.data.store import read_manifest, write_manifest
from lorasum.errors import BackendError, LorasumError, OutageError, RefusedError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Dataset, Endpoint
from lorasum.lifecycle.lookup import chosen_job
from lorasum.lifecycle.teardowns import TornDownError, note_teardown
from lorasum.scoring.evaluation import BASE, LEAD, LONGEST, TUNED
from lorasum.scoring.thresholds import thresholds
from lorasum.shared.records import BaseSummaries, base_summaries_text
from lorasum.system import paths


def interrupt() -> None:
    raise KeyboardInterrupt


def refuse() -> None:
    raise BackendError("the endpoint broke")


def states(ledger: Ledger) -> dict[str, str]:
    return {row.name: row.state for row in ledger.rows(Endpoint, "chats")}


def asked(backend: InMemoryBackend) -> list[str]:
    return [request["endpoint"] for request in backend.requests]


@pytest.fixture
def deployed(config: Config, backend: InMemoryBackend, ledger: Ledger) -> Config:
    train(context(config, backend, ledger))
    deploy(context(config, backend, ledger))
    backend.requests.clear()
    return config


def test_the_tuned_model_is_scored_beside_base_and_first_sentences(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    result = evaluate(context(deployed, backend, ledger))
    assert list(result.scores) == [LEAD, LONGEST, BASE, TUNED]
    # It echoes "Sum up: Ana: number 0 =>": the 3 words of the reference and 2 more. F = 2 · 3 / (5 + 3).
    assert result.scores[TUNED].rouge1.mean == pytest.approx(100 * 6 / 8)
    assert result.scores[LEAD].rouge1.mean == pytest.approx(100)
    assert [comparison.other for comparison in result.comparisons] == [LEAD, LONGEST, BASE]
    assert not result.comparisons[2].rougeL.is_real, "both echo"
    assert asked(backend) == ["chats--base"] * 3 + ["chats"] * 2
    assert states(ledger) == {"chats": "live", "chats--base": "gone"}


def test_summaries_that_are_kept_are_not_asked_for_again(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    first = evaluate(context(deployed, backend, ledger))
    backend.calls.clear()
    again = evaluate(context(deployed, backend, ledger))
    assert (again.scores, again.worst) == (first.scores, first.worst)
    assert evaluate(context(deployed, backend, ledger), limit=1, base=False).examples == 1
    assert not {"invoke", "start_endpoint"} & set(backend.calls)


def test_data_that_has_changed_since_the_training_is_warned_of(
    deployed: Config, prepared: Path, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter
) -> None:
    """Whoever corrects references would take the scores for those of the new ones."""
    chats = prepared / "chats.jsonl"
    chats.write_text('{"dialogue": "Ana: hi", "summary": "Ana greets."}\n')
    data = deployed.data.model_copy(update={"dataset": None, "train": str(chats), "test_fraction": 0.5})
    run = context(deployed.model_copy(update={"data": data}), backend, ledger, told)
    identities: dict[str, str] = {split: source.identity() for split, source in open_sources(data).items()}
    manifest = read_manifest(prepared)
    assert manifest
    write_manifest(prepared, replace(manifest, settings=Settings.of(identities, "", data).recorded()))
    evaluate(run, base=False)
    assert not told.warnings
    chats.write_text('{"dialogue": "Ana: hi", "summary": "Ana says hello."}\n')
    evaluate(run, base=False)
    assert [line for line in told.warnings if "changed since then: chats.jsonl." in line] == told.warnings != []
    told.warnings.clear()
    assert (job := chosen_job(run).name)  # what would be deployed is a model of the old references
    assert [line.partition(". ")[0] for line in told.warnings] == [
        f"job {job} was trained before the data changed: chats.jsonl"
    ]


def test_an_evaluation_that_was_cut_off_goes_on(deployed: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    def at_the_second_request() -> None:
        if len(backend.requests) == 1:
            refuse()

    backend.before["invoke"] = at_the_second_request
    with pytest.raises(BackendError, match="broke"):
        evaluate(context(deployed, backend, ledger), base=False)
    backend.before.clear()
    assert evaluate(context(deployed, backend, ledger), base=False).examples == 3
    assert [len(request["inputs"]) for request in backend.requests] == [2, 1]


def test_a_base_endpoint_that_costs_money_is_started_only_when_asked_for(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.price = 2.5
    said = RecordingReporter()
    assert BASE not in evaluate(context(deployed, backend, ledger, said)).scores
    assert list(backend.endpoints) == ["chats"]
    [step] = [step for step in said.steps if "left out" in step]
    assert "$2.50 an hour" in step
    assert BASE in evaluate(context(deployed, backend, ledger), base=True).scores
    assert BASE in evaluate(context(deployed, backend, ledger)).scores, "its summaries were kept"


@pytest.mark.parametrize("meanwhile", ["start_endpoint", "invoke"])
def test_a_base_endpoint_that_is_torn_down_while_it_starts_is_not_asked(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, meanwhile: str
) -> None:
    run = context(deployed, backend, ledger)
    evaluate(run, base=False)
    backend.requests.clear()
    backend.before[meanwhile] = lambda: note_teardown(run.name)
    with pytest.raises(TornDownError):
        evaluate(run, base=True)
    assert (list(backend.endpoints), len(backend.requests)) == (["chats"], int(meanwhile == "invoke"))


def give_the_base_a_chat_format(ledger: Ledger) -> None:
    """Write it into the manifest, as `prepare` does where the prompts have another form."""
    [row] = ledger.rows(Dataset, "chats")
    manifest = Path(row.path) / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"base_template": "<user>{dialogue}<answer>"}))


@pytest.mark.parametrize("asked_as", ["chat", "trained"])
def test_the_base_model_is_asked_in_its_own_chat_format(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, asked_as: str
) -> None:
    give_the_base_a_chat_format(ledger)
    settings = deployed.evaluate.model_copy(update={"base_prompt": asked_as})
    evaluate(context(deployed.model_copy(update={"evaluate": settings}), backend, ledger))
    own = {request["endpoint"] for request in backend.requests if request["inputs"][0].startswith("<user>")}
    assert own == ({"chats--base"} if asked_as == "chat" else set())


def test_base_summaries_of_another_prompt_are_not_compared(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    backend.price = 2.5
    leave_base_summaries(backend, tmp_path, ["one", "two", "three"])
    assert BASE in evaluate(context(deployed, backend, ledger)).scores
    give_the_base_a_chat_format(ledger)
    assert BASE not in evaluate(context(deployed, backend, ledger)).scores


def leave_base_summaries(backend: InMemoryBackend, folder: Path, summaries: Sequence[str], **asked: float) -> None:
    """Write them into the newest job's artifact, as the training job does."""
    backend.artifacts = f"{folder}/"
    job = list(backend.jobs)[-1]
    generation = {"max_new_tokens": 128, "temperature": 0.0, **asked}
    (folder / job).mkdir()
    text = base_summaries_text(BaseSummaries(generation, tuple(summaries), "Sum up: {dialogue} =>"))
    (folder / job / "base_summaries.json").write_text(text)


def test_what_the_training_job_had_the_base_model_say_needs_no_endpoint(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    backend.price = 2.5
    leave_base_summaries(backend, tmp_path, ["ana: number 0 =>", "", ""])
    result = evaluate(context(deployed, backend, ledger))
    assert result.scores[BASE].rouge1.mean == pytest.approx(100 / 3)
    assert set(asked(backend)) == {"chats"}


def test_summaries_of_some_dialogues_are_compared_by_a_limit_or_completed(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    backend.price = 2.5
    leave_base_summaries(backend, tmp_path, ["one", "two"])
    said = RecordingReporter()
    assert BASE not in evaluate(context(deployed, backend, ledger, said)).scores
    assert "`--limit 2` compares those that the training job had it summarise" in " ".join(said.steps)
    assert BASE in evaluate(context(deployed, backend, ledger), limit=2).scores
    backend.requests.clear()
    assert BASE in evaluate(context(deployed, backend, ledger), base=True).scores
    assert [len(each["inputs"]) for each in backend.requests if each["endpoint"] == "chats--base"] == [1, 1]


def test_summaries_that_were_asked_for_otherwise_are_not_compared(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    backend.price = 2.5
    leave_base_summaries(backend, tmp_path, ["one", "two", "three"], max_new_tokens=64)
    assert BASE not in evaluate(context(deployed, backend, ledger)).scores


PINNED = {"id": "org/model", "revision": "a" * 40}


@pytest.mark.parametrize("same_run", [True, False])
def test_what_one_job_had_the_base_model_say_serves_the_next(
    make_config: Callable[..., Config],
    prepared: Path,
    backend: InMemoryBackend,
    ledger: Ledger,
    tmp_path: Path,
    same_run: bool,
) -> None:
    """Each job of a sweep asked it again, for up to ten minutes of a GPU. Then another machine found no answers."""
    train(context(make_config(model=PINNED), backend, ledger))
    leave_base_summaries(backend, tmp_path, ["ana: number 0 =>", "", ""])
    other = make_config(model=PINNED, lora={"r": 4}, name="chats" if same_run else "chats-2")
    row = ledger.intend(Dataset(run=other.name, name=prepared.name, backend="local", path=str(prepared)))
    ledger.save(replace(row, state="done"))
    job = train(context(other, backend, ledger)).job
    assert [spec.base_seconds for spec in backend.specs.values()] == [600, 0]
    [first] = [name for name in backend.jobs if name != job]
    (tmp_path / first / "base_summaries.json").unlink()  # as by `teardown --artifacts` of the first
    shutil.rmtree(paths.run_dir(other.name) / "evaluations")  # as on another machine
    backend.price = 2.5
    deploy(context(other, backend, ledger))
    result = evaluate(context(other, backend, ledger))
    assert result.scores[BASE].rouge1.mean == pytest.approx(100 / 3)
    assert set(asked(backend)) == {other.name}


@pytest.mark.usefixtures("prepared")
def test_other_scripts_ask_the_base_model_in_their_own_way(
    make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    """What older scripts had it say was compared with what newer ones have the tuned model say."""
    run = context(make_config(model=PINNED), backend, ledger)
    train(run)
    leave_base_summaries(backend, tmp_path, ["older", "older", "older"])
    deploy(run)
    assert evaluate(run).scores[BASE].rouge1.mean == 0
    backend.scripts = {"container scripts": "newer"}
    train(run, again=True)
    leave_base_summaries(backend, tmp_path, ["ana: number 0 =>", "", ""])
    train(context(make_config(model=PINNED, lora={"r": 4}), backend, ledger))
    assert [spec.base_seconds for spec in backend.specs.values()] == [600, 600, 0]
    deploy(run)
    assert evaluate(run).scores[BASE].rouge1.mean == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ("sections", "summaries"),
    [
        ({"model": {**PINNED, "revision": "b" * 40}}, 3),
        ({"model": {"id": "org/model"}}, 3),
        ({"predict": {"max_new_tokens": 64}}, 3),
        ({"predict": {"temperature": 0.5}}, 3),
        ({"data": "others"}, 3),
        ({"evaluate": {"base_prompt": "chat"}}, 3),
        ({}, 2),
    ],
)
def test_a_job_asks_a_base_model_that_was_asked_otherwise(
    make_config: Callable[..., Config],
    prepared: Path,
    backend: InMemoryBackend,
    ledger: Ledger,
    tmp_path: Path,
    sections: dict[str, Any],
    summaries: int,
) -> None:
    trained = {"base_prompt": "trained"}
    give_the_base_a_chat_format(ledger)
    train(context(make_config(model=PINNED, evaluate=trained), backend, ledger))
    leave_base_summaries(backend, tmp_path, ["one", "two", "three"][:summaries])
    if sections.pop("data", None):
        manifest = json.loads((prepared / "manifest.json").read_text())
        (prepared / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": "other"}))
    train(context(make_config(**{"model": PINNED, "evaluate": trained, "lora": {"r": 4}, **sections}), backend, ledger))
    assert [spec.base_seconds for spec in backend.specs.values()] == [600, 600]


class KilledError(BaseException):
    """The process ends, and nothing is cleaned up."""


@pytest.mark.parametrize("base", [None, False])
def test_a_base_endpoint_that_a_killed_evaluation_left_is_removed(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, base: bool | None
) -> None:
    def kill() -> None:
        raise KilledError

    backend.before["delete_endpoint"] = kill
    with pytest.raises(KilledError):
        evaluate(context(deployed, backend, ledger))
    assert set(backend.endpoints) == {"chats", "chats--base"}
    del backend.before["delete_endpoint"]
    evaluate(context(deployed, backend, ledger), base=base)
    assert set(backend.endpoints) == {"chats"}
    assert states(ledger) == {"chats": "live", "chats--base": "gone"}


@pytest.mark.parametrize("failure", [refuse, interrupt])
def test_the_base_endpoint_is_deleted_whatever_happens(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, failure: Callable[[], None]
) -> None:
    def at_the_base_models_second_request() -> None:
        if asked(backend).count("chats--base") == 1:
            failure()

    backend.before["invoke"] = at_the_base_models_second_request
    with pytest.raises((BackendError, KeyboardInterrupt)):
        evaluate(context(deployed, backend, ledger))
    assert list(backend.endpoints) == ["chats"]
    assert states(ledger)["chats--base"] == "gone"


def test_the_base_endpoint_is_deleted_after_an_outage(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def throttle_once() -> None:
        backend.before.clear()
        raise OutageError("throttled")

    monkeypatch.setattr("lorasum.lifecycle.base_endpoint._BETWEEN_TRIES", 0.0)
    backend.before["delete_endpoint"] = throttle_once
    evaluate(context(deployed, backend, ledger))
    assert list(backend.endpoints) == ["chats"]
    assert states(ledger)["chats--base"] == "gone"


def test_ctrl_c_while_the_base_endpoint_is_deleted_deletes_it(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    def interrupt_once() -> None:
        backend.before.clear()
        interrupt()

    backend.before["delete_endpoint"] = interrupt_once
    with pytest.raises(KeyboardInterrupt):
        evaluate(context(deployed, backend, ledger))
    assert list(backend.endpoints) == ["chats"]
    assert states(ledger)["chats--base"] == "gone"


def test_every_summary_is_written_down_with_its_scores_and_findings(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    result = evaluate(context(deployed, backend, ledger), base=False)
    rows = [json.loads(line) for line in Path(result.summaries).read_text().splitlines()]
    assert [row["id"] for row in rows] == [1, 2, 3]
    assert rows[0]["dialogue"] == "Ana: number 0"
    assert rows[0]["references"] == ["ana: number 0 =>"]
    assert rows[0]["scores"]["rouge1"] == pytest.approx(75)
    assert isinstance(rows[0]["findings"], list)


def test_a_refused_dialogue_counts_as_an_empty_summary(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    class Picky(InMemoryBackend):
        def invoke(self, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Any:
            if any("number 1" in prompt for prompt in payload["inputs"]):
                raise RefusedError("too long")
            return super().invoke(endpoint, payload, timeout)

    picky = Picky()
    picky.endpoints, picky.jobs = backend.endpoints, backend.jobs
    said = RecordingReporter()
    result = evaluate(context(deployed, picky, ledger, said), base=False)
    assert result.scores[TUNED].rouge1.mean == pytest.approx(75 * 2 / 3)
    assert said.warnings == ["1 of 3 dialogues were refused and count as empty summaries: too long"]


def test_another_run_is_compared_on_the_same_dialogues(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    result = evaluate(context(deployed, backend, ledger), base=False)
    other = paths.run_dir("other") / "evaluations"
    other.mkdir(parents=True)
    rows = [json.loads(line) | {"summary": "ana: number"} for line in Path(result.summaries).read_text().splitlines()]
    (other / "scored-1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    compared = evaluate(context(deployed, backend, ledger), base=False, other="other")
    assert "other" in compared.scores
    assert compared.comparisons[-1].other == "other"
    with pytest.raises(LorasumError, match="run 'nobody' has no evaluation on the same 3 test dialogues"):
        evaluate(context(deployed, backend, ledger), base=False, other="nobody")


def test_figures_below_their_limit_are_named(deployed: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    result = evaluate(context(deployed, backend, ledger), base=False, at_least={"rouge1": 80, "rougeL": 10})
    assert list(map(str, result.missed)) == ["rouge1 is 75, and at least 80 is asked for"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rogue1=40", "did you mean rouge1"),
        ("rouge1=lots", "'lots' is not a number"),
        ("rouge1", "'' is not a number"),
        ("rouge1=nan", "'nan' is not a number"),
    ],
)
def test_a_limit_that_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(LorasumError, match=message):
        thresholds([text])
    assert thresholds(["rouge1=40", "faithful=0.9", "rouge1=30"]) == {"rouge1": 40.0, "faithful": 0.9}


@pytest.fixture
def judge() -> Iterator[JudgeServer]:
    with JudgeServer() as made:
        yield made


def once(said: str | tuple[int, str]) -> Callable[[dict[str, Any]], str | tuple[int, str]]:
    """Says `said` of the second summary, and gives the others good marks."""
    return lambda body: said if "number 1" in str(body["messages"]) else json.dumps(GOOD)


@pytest.mark.parametrize(
    ("said", "judged", "words"),
    [
        ("I cannot judge.", 2, "1 of 3 summaries are not judged: the judge's answer has not the form of the rubric"),
        ((429, "slow down"), 1, "2 of 3 summaries are not judged: the judge at"),
    ],
)
def test_what_a_bad_judge_has_not_judged_is_told_and_the_rest_stays(
    make_config: Callable[..., Config],
    deployed: Config,
    backend: InMemoryBackend,
    ledger: Ledger,
    judge: JudgeServer,
    said: str | tuple[int, str],
    judged: int,
    words: str,
) -> None:
    config = {"url": judge.url, "model": "judge-1", "timeout": 200}
    judge.say = once(said)
    run = make_config(predict={"batch_size": 2}, evaluate={"judge": config})
    told = RecordingReporter()
    result = evaluate(context(run, backend, ledger, told), base=False)
    assert result.judge is not None
    assert (result.judge.judged, result.judge.coverage) == (judged, 3.0)
    assert result.scores[TUNED].rouge1.mean == pytest.approx(75)
    assert words in told.warnings[-1]
    assert told.warnings[-1].endswith(")"), "it has a hint"

    asked_before, judge.say = len(judge.requests), lambda _: json.dumps(GOOD)
    again = evaluate(context(run, backend, ledger), base=False).judge
    assert again is not None
    assert again.judged == 3
    assert len(judge.requests) == asked_before + 3 - judged, "what was judged is not asked again"


def test_a_judge_that_never_gives_a_verdict_is_given_up(
    make_config: Callable[..., Config],
    deployed: Config,
    backend: InMemoryBackend,
    ledger: Ledger,
    judge: JudgeServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lorasum.lifecycle.model_metrics._GIVE_UP", 2)
    judge.say = lambda _: "no"
    run = make_config(predict={"batch_size": 2}, evaluate={"judge": {"url": judge.url, "model": "judge-1"}})
    result = evaluate(context(run, backend, ledger), base=False).judge
    assert result is not None
    assert result.judged == 0
    assert result.coverage != result.coverage, "no mark is no zero"
    assert len(judge.requests) == 2 * 2, "two summaries, each asked about twice"


def test_a_consistency_model_is_loaded_before_anything_is_asked(
    make_config: Callable[..., Config], deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    model = {"id": str(tmp_path / "nothing")}
    run = make_config(evaluate={"consistency_model": model})
    with pytest.raises(LorasumError, match="there is no folder"):
        evaluate(context(run, backend, ledger))
    with pytest.raises(LorasumError, match="no model measures it"):
        evaluate(context(deployed, backend, ledger), at_least={"consistency": 0.8})
    assert not backend.requests


def test_a_judge_that_fails_loses_nothing(
    make_config: Callable[..., Config], deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    judge = {"url": "http://127.0.0.1:9/v1", "model": "judge-1"}
    config = make_config(predict={"batch_size": 2}, evaluate={"judge": judge})
    said = RecordingReporter()
    result = evaluate(context(config, backend, ledger, said), base=False)
    assert result.judge is not None
    assert result.judge.judged == 0
    assert result.scores[TUNED].rouge1.mean == pytest.approx(75)
    assert "cannot be reached" in said.warnings[-1]

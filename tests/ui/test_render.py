"""What people and programs see: results on stdout, as text or as JSON; progress on stderr, live or in lines."""

import io
import json
import math
import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from forks import Popen
from rich.console import Console

from lorasum.backends.records import Check, Room
from lorasum.data.records import Look, Manifest, SplitStats
from lorasum.errors import ConfigError, LorasumError
from lorasum.formatting import on_disk
from lorasum.ledger.resources import Adapter, Endpoint, Origin
from lorasum.results.overview import (
    CleanFolder,
    CleanResult,
    Progress,
    ReportResult,
    ResourceStatus,
    RunResource,
    RunsResult,
    RunSummary,
    StatusResult,
)
from lorasum.results.serving import (
    BatchPrediction,
    DeployPlan,
    DeployResult,
    EvaluateResult,
    JudgeFigures,
    Prediction,
    RowFailure,
    RunResult,
    TeardownResult,
)
from lorasum.results.sharing import ExportResult, PushResult
from lorasum.results.training import (
    ExampleResult,
    InitResult,
    InstanceOption,
    PlanResult,
    PrepareResult,
    RenderedExample,
    SweepResult,
    TrainPlan,
    TrainResult,
    TranslatedResult,
)
from lorasum.scoring.evaluation import compare, mean_scores, score_summaries
from lorasum.shared.events import MERGE_LEFT_OUT, Event, StepEvent, read_event
from lorasum.ui import render, reporter
from lorasum.ui.next_steps import Given
from lorasum.ui.reporter import ConsoleReporter
from lorasum.ui.terminal import visible

STATS = SplitStats(examples=160, packs=38, tokens=32000, completion_tokens=4000, longest_example_tokens=612, fill=0.94)
MANIFEST = Manifest("abc", "{dialogue}", "org/model", None, 2, 1024, {"train": STATS}, {"too long": 3}, "0.1.0")
PREPARED = PrepareResult("chats", "/data/abc", reused=False, manifest=MANIFEST, seconds=3.4)
TRAINED = TrainResult(
    run="chats",
    job="chats-1",
    location="arn:aws:job",
    state="done",
    artifact="/model",
    reused=False,
    seconds=290,
    job_seconds=277,
    train_loss=1.9,
    eval_loss=float("nan"),
    tokens=32000,
    tokens_per_second=115.2,
    kept_step=38,
    kept_because="last step",
    score=None,
    scored_by="",
    generation_seconds=0.0,
)
STARTED = replace(
    TRAINED, state="live", artifact=None, job_seconds=None, tokens=None, tokens_per_second=None, kept_step=None
)
DEPLOYED = DeployResult("chats", "chats", "http://127.0.0.1:4000", "/model", "chats-1", False, 4.2)
DIALOGUES = [f"Ann: see you at {hour}\nBen: fine" for hour in range(1, 9)]
REFERENCES = [[f"Ann and Ben meet at {hour}."] for hour in range(1, 9)]
TUNED = score_summaries(DIALOGUES, REFERENCES, [f"Ann meets Oskar at {hour}." for hour in range(1, 9)], "en")
BASE = score_summaries(DIALOGUES, REFERENCES, ["They talk."] * 8, "en")
EVALUATED = EvaluateResult(
    run="chats",
    examples=8,
    language="en",
    scores={"base model": mean_scores(BASE), "fine-tuned": mean_scores(TUNED)},
    comparisons=(compare("base model", TUNED, BASE), compare("itself", TUNED, TUNED)),
    worst=tuple(TUNED[:1]),
    summaries="/home/ann/scored.jsonl",
    judge=JudgeFigures("judge-1", 5, 4.2, 3.8, 5.0, 3, 1, 1, 0.12),
    missed=(),
    seconds=40,
)
SAMPLE = Prediction("chats", "Mia: climb [tonight]? :smile: 😀", "They climb.", "Mia wants to climb.")
GONE = RunResource(
    run="chats",
    kind="endpoint",
    name="chats",
    backend="sagemaker",
    account_and_region="1, us-east-1",
    location="arn:aws:1",
    reason="",
    usd_per_hour=2.03,
)
TORN = TeardownResult("chats", (GONE,), ("s3://bucket/chats/",), ())
RAN = RunResult("chats", PREPARED, TRAINED, DEPLOYED, EVALUATED, SAMPLE, TORN, 400)
ENDPOINT = Endpoint(
    run="chats",
    name="chats",
    backend="local",
    state="live",
    artifact="/model",
    origin=Origin(template="Sum up: {dialogue}"),
    created_at="2026-11-24T03:43:11",
    updated_at="2026-11-24T03:43:11",
)
ROW = ResourceStatus.of(ENDPOINT, 0.0)
LOOK = Look(
    ("a.csv",), "chat", "tldr", (), 12, 11, {"no summary": 1}, "a.csv:3: no summary", False, 90, 400, 50, 450, "en"
)
RESULTS = [
    RAN,
    InitResult("run.yaml", "chats", "local", "org/model", 512, LOOK, ("lorasum prepare run.yaml",)),
    ExampleResult("quickstart", ("configs/quickstart.yaml",), ("lorasum run configs/quickstart.yaml",)),
    TranslatedResult("run.yaml", "chats", "axolotl", ("flash_attention: True",), ("say where",), ("lorasum prepare",)),
    replace(TORN, run=None, remaining=(replace(GONE, run="desk", reason="it still runs"),)),
    RunsResult((RunSummary("chats", 1_500_000_000, "2026-11-24T03:43:11", True, 2.03, 30.1, 25),)),
    CleanResult.of((CleanFolder("run", "chats", "/home/ann/runs/chats", 1_200_000_000),)),
    PushResult("chats", "chats-1", "ann/chats", "https://hub.example/ann/chats", True, "adapter"),
    ExportResult("chats", "chats-1", "/home/ann/m.gguf", 270_900_000, "llama", 272),
    ReportResult("chats", "/home/ann/report.html", "desk", ("it has not been evaluated",)),
    StatusResult((ROW, replace(ROW, name="chats-0123456789ab", progress=Progress(3, 9, 1.5, None, 6.0))), (GONE,)),
    StatusResult(()),
    BatchPrediction("chats", "/a.jsonl", "b.jsonl", 3, 1.0),
    TrainPlan("chats", "chats-1", "/train.py", "org/model", "/data", {"lora_r": "16"}),
    DeployPlan("chats", "chats", "/model", {"command": ["python"]}, 0.0),
]
GIVEN = Given(Path("my run.yaml"), ("lora.r=8", "data.train=s3://me:secret-word@host/b"))
TYPED = "'my run.yaml' --set lora.r=8"
PLAN = PlanResult("chats", "chats-1", True, 1, 1, 1, None, None, 0.0, None, None, 0.0, ())
SWEPT = SweepResult("chats", "loss", (), "t", None, 0.0, 1.0, ("lorasum deploy FILE --set name=t",))


@pytest.mark.parametrize(
    "result", [*RESULTS, SAMPLE, Prediction("chats", "a", "b")], ids=lambda result: type(result).__name__
)
def test_json_is_json_whatever_the_terminal(
    result: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("COLUMNS", "20")
    render.show(result, as_json=True)
    out = capsys.readouterr().out
    assert out.isascii()
    assert isinstance(json.loads(out, parse_constant=pytest.fail), dict)


def test_json_has_the_fields_of_the_record_and_null_for_nan(capsys: pytest.CaptureFixture[str]) -> None:
    render.show(RAN, as_json=True)
    ran = json.loads(capsys.readouterr().out)
    assert set(ran["evaluate"]["scores"]["fine-tuned"]["rougeL"]) == {"mean", "low", "high"}
    assert ran["evaluate"]["worst"][0]["findings"][0]["kind"] == "name"
    assert ran["prepare"]["manifest"]["splits"]["train"]["packs"] == 38
    assert ran["train"]["eval_loss"] is None
    assert ran["predict"]["dialogue"] == SAMPLE.dialogue


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (RunsResult((RunSummary("chats", 1, "2026-11-24T03:43:11", True, 2.03, 31.0, 4),)), "31.0 of 4"),
        (CleanResult.of((), dry_run=True), "nothing to delete"),
        (ExportResult("chats", "chats-1", "/my models/m.gguf", 1, "llama", 2), "llama-server -m '/my models/m.gguf'"),
    ],
)
def test_a_result_tells_what_it_stands_on(result: object, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    render.show(result)
    assert told in capsys.readouterr().out


def test_a_run_shows_what_each_verb_did(capsys: pytest.CaptureFixture[str]) -> None:
    render.show(RAN)
    out = capsys.readouterr().out
    for part in (
        "32,000",
        "3 too long",
        "chats-1",
        "http://127.0.0.1:4000",
        "base model",
        "ROUGE-L against base model: better by",
        "6 min 40 s",
    ):
        assert part in out
    assert SAMPLE.dialogue in out, "markup and emoji codes in a dialogue are text"
    assert "removed endpoint chats" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_no_word_is_broken_in_two_on_a_narrow_terminal(
    result: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = []
    monkeypatch.setattr("lorasum.ui.terminal._PIPE_WIDTH", 0)
    for columns in (200, 60):
        monkeypatch.setenv("COLUMNS", str(columns))
        render.show(result)
        words.append(set(re.findall(r"[^\s│─╭╮╰╯├┤┬┴┼]+", capsys.readouterr().out)))
    assert words[0]
    assert words[0] <= words[1]


def test_a_dry_run_prints_a_request_that_is_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    request = {"TrainingImage": "763104351884.dkr.ecr.eu-central-1.amazonaws.com/" + "long-name-" * 12}
    for planned in (
        TrainPlan("chats", "chats-1", "/train.py", "m", "/d", {}, request),
        DeployPlan("chats", "chats", "s3://b/m", request, 2.03),
    ):
        render.show(planned)
        assert json.loads(capsys.readouterr().out) == request, "all of stdout is the request"


@pytest.mark.parametrize(
    ("nothing", "of"),
    [
        (StatusResult(()), ""),
        (StatusResult((), run="chats"), " of run chats"),
        (RunsResult(()), ""),
        (TeardownResult(None, (), (), ()), ""),
    ],
)
def test_where_nothing_is_on_record_its_folder_is_named(
    nothing: object, of: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORASUM_HOME", "/mistyped")
    render.show(nothing)
    assert f"on record{of} in /mistyped" in capsys.readouterr().out


def test_status_tells_progress_and_whom_it_did_not_ask(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    running = replace(ROW, kind="training_job", progress=Progress(3, 9, 1.5, None, 6.0))
    waiting, done = replace(running, progress=Progress(0)), replace(running, progress=Progress(None, None, 1.5, 1.25))
    batch = replace(ROW, kind="batch_job", progress=Progress(76, 1200, None, None, 6.0))
    render.show(StatusResult((running, waiting, done, ROW, batch)))
    shown = capsys.readouterr().out
    for said in (
        "step 3/9, loss 1.500, 6.0 s left",
        "76 of 1,200 rows, 6.0 s left",
        "before its first step",
        "loss 1.500, test 1.250",
    ):
        assert said in shown
    assert "not asked" not in shown
    render.show(StatusResult((replace(ROW, backend="sagemaker", asked=False),)))
    shown = capsys.readouterr().out
    assert "as recorded, not asked: sagemaker" in shown
    assert "progress" not in shown


def test_status_tells_where_an_endpoint_answers(capsys: pytest.CaptureFixture[str]) -> None:
    here = replace(ROW, location="http://127.0.0.1:33015")
    gone = replace(here, state="gone", location="http://127.0.0.1:4000")
    render.show(StatusResult((here, gone, replace(here, location="arn:aws:1"))))
    assert [line for line in capsys.readouterr().out.splitlines() if "answers" in line] == [
        "  chats answers at http://127.0.0.1:33015"
    ]


def test_status_says_why_a_job_stopped_or_failed_in_a_few_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    why = "interrupted at step 1,234 of 5,678; the same command resumes from the checkpoint"
    job = replace(ROW, kind="batch_job", name="chats-rows-0123456789ab", state="stopped", reason=why)
    render.show(StatusResult((job,)))
    head, _, _, below = capsys.readouterr().out.splitlines()
    assert below == f"  chats-rows-0123456789ab stopped: {why}"
    assert len(head) < 80, "it stays a table on a narrow terminal"
    render.show(StatusResult((replace(ROW, state="failed", reason="out of memory " * 40),)))
    assert "failed: out of memory" in (out := " ".join(capsys.readouterr().out.split()))
    assert out.count("memory") < 8


def test_status_names_the_runs_whose_adapters_an_endpoint_serves(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    origin = ENDPOINT.origin
    serves = tuple(Adapter(run=name, job="j", artifact="/a", rank=8, origin=origin) for name in ("chats", "orders"))
    render.show(StatusResult((ResourceStatus.of(replace(ENDPOINT, adapters=serves), 0.0),)))
    assert "live, serves chats, orders" in capsys.readouterr().out


def test_status_shows_the_price_of_what_runs_and_the_cost_of_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    running = replace(ROW, usd_per_hour=2.03, usd=6.1)
    ended = replace(running, state="gone", may_run=False)
    warm = replace(running, state="done", kept_warm=True)
    render.show(StatusResult((running, ended, replace(ended, usd=0.002), replace(ended, usd=None), warm)))
    rows = capsys.readouterr().out.splitlines()[2:]
    shown = [row.partition("03:43")[2].split() for row in rows]
    so_far = ["$2.03", "$6.10", "so", "far"]
    assert shown == [so_far, ["$6.10"], ["<$0.01"], ["unknown"], so_far]
    assert ["done, kept warm" in row for row in rows] == [False] * 4 + [True]
    render.show(StatusResult((ended,)))
    assert capsys.readouterr().out.splitlines()[0].split()[-2:] == ["(UTC)", "cost"], "nothing runs, at no price"


def test_the_cost_of_a_fleet_that_may_have_grown_is_the_least(capsys: pytest.CaptureFixture[str]) -> None:
    may = replace(ENDPOINT, usd_per_hour=2.0, most_instances=4)
    has = replace(may, instances=3, most_instances=1)  # a deploy was not allowed to make it smaller
    rows = [ResourceStatus.of(row, 6.1) for row in (may, replace(may, state="gone"), has)]
    render.show(StatusResult(tuple(rows)))
    shown = [row.split("$", 1)[1].rstrip() for row in capsys.readouterr().out.splitlines()[2:]]
    assert [row.replace(" ", "") for row in shown] == ["2.00$6.10ormoresofar", "6.10ormore", "6.00$6.10ormoresofar"]


def test_status_tells_when_an_endpoint_ends_in_red_once_that_is_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    endless = replace(ROW, kind="endpoint", may_run=True)
    ending = replace(endless, expires_at=datetime(2026, 11, 25, 18, 40, tzinfo=UTC))
    over = replace(ending, alarm="its time was over")
    gone = replace(ending, state="gone", may_run=False, reason="its time was over, and it ended by itself")
    render.show(StatusResult((endless, ending, gone)))
    head, _, *rows, why = capsys.readouterr().out.splitlines()
    assert "ends (UTC)" in head
    assert ["11-25 18:40" in row for row in rows] == [False, True, False]
    assert why == "  chats gone: its time was over, and it ended by itself"
    monkeypatch.setenv("FORCE_COLOR", "1")
    render.show(StatusResult((ending, over)))
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert ["\x1b[1;31m11-25 18:40" in row for row in rows] == [False, True]
    render.show(StatusResult((endless,)))
    assert "ends" not in capsys.readouterr().out


@pytest.mark.parametrize(("itself", "said"), [(True, "it ends by itself"), (False, "it does NOT end by itself")])
def test_deploy_says_how_long_the_endpoint_runs(capsys: pytest.CaptureFixture[str], itself: bool, said: str) -> None:
    end = datetime.now().astimezone().replace(hour=18, minute=40)
    render.show(replace(RAN.deploy, expires_at=end, max_usd=8.12, ends_itself=itself))
    assert f"until {end:%H:%M %Z}, at most $8.12; {said}" in capsys.readouterr().out


def test_a_plan_shows_prices_time_and_what_is_not_ready(capsys: pytest.CaptureFixture[str]) -> None:
    of_endpoint = Check("role", False, "none", "make one", stops_training=False)
    checks = (Check("bucket", True, "chats"), Check("quota", False, "it is 0", "ask for more"), of_endpoint)
    made = PlanResult(
        "chats", "chats-1", True, 10, 30, 12_000, 3600.0, "chats-0", 1.5, 0.15, 7200, 2.0, checks,
        host=Room({"processes": 4 << 30, "merge": 1 << 30}, 29 << 30), disk=Room({"merged model": 10**9}, 0),
        max_usd=3.0,
        instances=(
            InstanceOption(
                "ml.g5.2xlarge", 1, 21 << 30, 29 << 30, 1, True, False, True, "", 1.5, 3600.0, 1.5, 2.0, 48.0, 1440.0
            ),
            InstanceOption(
                "ml.g4dn.12xlarge", 4, 14 << 30, 1 << 30, 1, False, True, False, "GPU", None, None, None, 1, 24, 720
            ),
            InstanceOption(
                "ml.g4dn.xlarge", 1, 14 << 30, 1, 1, False, False, None, "", 1.0, None, None, 1, 24, 720,
                endpoint_fits=False,
            ),
        ),
    )  # fmt: skip
    render.show(made)
    out = " ".join(capsys.readouterr().out.split())
    assert "10 packs, 30 steps, 12,000 tokens in all" in out
    assert "1 h 0 min at the speed of job chats-0" in out
    assert "$1.50 an hour, $1.50 for that time, $3.00 at most" in out
    assert "$2.00 an hour, $48.00 a day, $1,440.00 in 30 days" in out
    assert "up to 90% less, so $0.15 to $1.50 an hour; AWS publishes no price of SageMaker's spot" in out
    assert "main memory 5.0 of 29 GiB (processes 4.0, merge 1.0) disk 1.0 GB (merged model 1.0)" in out
    assert "ml.g5.2xlarge train 21 ✓ 1.50 1 h 0 min 1.50 2.00 48.00 1,440" in out
    assert "ml.g4dn.12xlarge serve 4 × 14 ✗ GPU ? – – 1.00 24.00 720" in out
    assert "ml.g4dn.xlarge 14 ? 1.00 – – ✗ GPU – –" in out
    assert "✓ bucket: chats" in out
    assert "✗ quota: it is 0 → ask for more" in out
    assert "! role: none → make one" in out
    unknown = replace(
        made, prepared=False, training_seconds=None, usd_per_hour=None, endpoint_usd_per_hour=None, checks=()
    )
    unknown = replace(unknown, instances=())
    render.show(unknown)
    out = capsys.readouterr().out
    assert (out.count("unknown"), "unknown an hour" in out) == (4, False)


def test_further_lines_of_a_check_begin_where_its_text_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorasum.ui.terminal._PIPE_WIDTH", 0)
    monkeypatch.setenv("COLUMNS", "60")
    check = Check("credentials", False, "AWS does not answer", "check the network and the region of the config")
    found = ("chats", "chats-1", True, 10, 30, 12_000, None, None, 0.0, None, None, 0.0, (check,))
    render.show(PlanResult(*found))
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "  ✗ credentials: AWS does not answer → check the network and",
        "    the region of the config",
    ]


def test_one_of_a_thing_is_not_called_several(capsys: pytest.CaptureFixture[str]) -> None:
    one = replace(LOOK, examples=1)
    render.show(InitResult("run.yaml", "chats", "local", "org/model", 512, one, ()))
    shown = capsys.readouterr().out
    assert "1 dialogue with summaries" in shown
    assert "1 row; a.csv:3" in shown


def test_a_lone_summary_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    summary = "a [bold]long[/bold] summary " * 20
    render.show(Prediction("chats", "dialogue", summary))
    assert capsys.readouterr().out == f"{summary}\n"


def test_an_error_is_one_line_and_a_hint_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    render.error(ConfigError("2 problems in x.yaml", "look [here]", ("x.yaml:1: a", "x.yaml:2: b" + "c" * 200)))
    out, err = capsys.readouterr()
    assert out == ""
    lines = ["error: 2 problems in x.yaml", "  x.yaml:1: a", "  x.yaml:2: b" + "c" * 200, "hint: look [here]"]
    assert err.splitlines() == lines


def step(number: int, steps: int = 40) -> StepEvent:
    return StepEvent(number, steps, epoch=0.5, loss=2.1, learning_rate=1e-4, tokens_per_second=130.4, eta_seconds=75.0)


def read(kind: str, **values: Any) -> Event:
    event = read_event(json.dumps({"event": kind, **values}))
    assert event is not None
    return event


def said(*events: Event, quiet: bool = False) -> list[str]:
    """The lines a reporter says about `events` where there is no terminal."""
    file = io.StringIO()
    with ConsoleReporter(quiet, to=Console(file=file, width=200)) as report:
        for event in events:
            report.event(event)
    return [line.strip() for line in file.getvalue().splitlines()]


def test_without_a_terminal_few_steps_are_printed_as_plain_lines() -> None:
    assert said(*(step(number) for number in range(1, 41))) == [
        "· step 1/40 · loss 2.100 · 130 tokens/s · 1 min 15 s left",
        "· step 40/40 · loss 2.100 · 130 tokens/s · 1 min 15 s left",
    ]


def test_without_a_terminal_a_long_training_has_a_line_a_per_cent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "_SECONDS_BETWEEN_LINES", 0.0)
    assert 90 <= len(said(*(step(number, 2000) for number in range(1, 2001)))) <= 102


def test_the_plan_is_shown_before_training() -> None:
    values: Mapping[str, Any] = {
        "device": "cpu",
        "compute_dtype": "float32",
        "dtype_reason": "no fast bfloat16 here",
        "parameters": 134_515_008,
        "trainable_parameters": 1_843_200,
        "packs": 38,
        "tokens": 32_000,
        "tokens_per_step": 842,
        "steps": 38,
        "epochs": 1.0,
        "loss_on": "completion",
        "resumed_from_step": 10,
        "lora_targets": ["q_proj", "v_proj"],
    }
    plan = "\n".join(said(read("start", **values)))
    for part in (
        "cpu, float32: no fast bfloat16 here",
        "134.5 M, 1.8 M",
        "q_proj, v_proj",
        "38 packs",
        "842",
        "step 10",
    ):
        assert part in plan


def test_little_memory_is_not_shown_as_none() -> None:
    shown = "\n".join(said(read("start", memory_bytes=400_000, memory_free_bytes=2**34, memory_parts={"head": 9})))
    assert "less than 50 MB" in shown
    assert "GiB" not in shown


def test_the_plan_says_what_is_quantized_and_what_is_slower() -> None:
    told = {"quantization": "int8", "compute_dtype": "bfloat16", "quantized_layers": 168, "whole_layers": 1}
    plan = "\n".join(said(read("start", **told)))
    assert "168 linear layers in int8, 1 in bfloat16" in plan
    assert "one example at a time" not in plan
    slow = read("start", one_example_at_a_time=True, not_the_fastest_because="the packed loss is off")
    assert "this architecture is trained one example at a time: the packed loss is off" in "\n".join(said(slow))
    own = read("start", not_the_fastest_because="attention examples: the packed loss is off")
    assert "keeps the attention of transformers: attention examples: the packed loss" in "\n".join(said(own))


def test_the_plan_says_where_a_base_model_is_that_processes_share() -> None:
    told = {"quantization": "int8", "compute_dtype": "bfloat16", "quantized_layers": 168, "whole_layers": 1}
    memory = {"memory_bytes": 20 << 30, "memory_free_bytes": 21 << 30, "shared_bytes": 64 << 30}
    several = "\n".join(said(read("start", **told, **memory, processes=4)))
    assert "168 linear layers in int8, 1 in bfloat16; shared by 4 processes" in " ".join(several.split())
    assert "64.0 GiB of the base model shared in main memory" in " ".join(several.split())
    assert "in main memory, fetched for each product" in "\n".join(said(read("start", **memory, processes=1)))


def test_an_evaluation_says_its_score_and_what_it_took() -> None:
    told = read("eval", step=9, eval_loss=2.5, score=31.25, scored_by="rougeL", generation_seconds=12.0)
    assert said(told) == ["· step 9: loss on the test split 2.500, rougeL 31.2, generating took 12.0 s"]
    assert said(read("eval", step=9, eval_loss=2.5)) == ["· step 9: loss on the test split 2.500"]


def test_one_dialogue_says_nothing_about_how_sure_a_figure_is(capsys: pytest.CaptureFixture[str]) -> None:
    one = {"base model": mean_scores(BASE[:1]), "fine-tuned": mean_scores(TUNED[:1])}
    compared = (compare("base model", TUNED[:1], BASE[:1]),)
    nothing = JudgeFigures("judge-1", 0, math.nan, math.nan, math.nan, 0, 0, 0, 0.0)
    render.show(replace(EVALUATED, examples=1, scores=one, comparisons=compared, worst=(), judge=nothing))
    shown = capsys.readouterr().out
    assert "±" not in shown
    assert "1 test dialogue in en" in shown
    assert "no difference that 1 dialogue can show" in shown
    assert "judge-1 has judged nothing" in shown


def test_how_probably_dialogues_entail_summaries_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    scored = [replace(one, consistency=0.5 + place / 10) for place, one in enumerate(TUNED[:5])]
    render.show(replace(EVALUATED, scores={"fine-tuned": mean_scores(scored)}))
    assert "fine-tuned 0.70 (0.58 to 0.82)" in " ".join(capsys.readouterr().out.split())


def test_a_training_says_which_weights_it_kept_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    scored = replace(
        TRAINED,
        kept_step=9,
        kept_because="highest rougeL of 4 evaluations",
        score=31.25,
        scored_by="rougeL",
        generation_seconds=12.0,
    )
    render.show(scored)
    shown = capsys.readouterr().out
    assert "of step 9: highest rougeL of 4 evaluations" in shown
    assert "rougeL 31.2" in shown
    assert "12.0 s of the time" in shown
    render.show(TRAINED)
    assert "generating" not in capsys.readouterr().out


def test_a_training_without_a_merged_model_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    render.show(replace(TRAINED, not_merged="it answers exactly as the base model"))
    shown = capsys.readouterr().out
    assert "none: it answers exactly as the base model" in shown
    assert "vllm serve" not in shown, "it could not be loaded"


def test_events_of_newer_and_older_scripts_are_shown() -> None:
    assert said(read("cooled", degrees=3), read("done"), read("start"))[0] == "· cooled degrees=3"


def test_quiet_leaves_warnings_only() -> None:
    file = io.StringIO()
    with ConsoleReporter(quiet=True, to=Console(file=file)) as report:
        report.step("step")
        report.progress("work", 1, 2)
        report.event(step(1))
        report.warn("careful")
    assert file.getvalue() == "warning: careful\n"


def on_terminal(script: str, kind: str) -> tuple[bytes, str]:
    """What a script says on stdout, and all that it shows on the terminal that its stderr is."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": kind, "COLUMNS": "120"}

    def more() -> bytes:
        try:
            return os.read(ours, 10_000)
        except OSError:
            return b""  # the script has ended

    with Popen[bytes]([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=theirs, env=env) as process:
        os.close(theirs)
        shown = b"".join(iter(more, b""))
        said = process.communicate()[0]
    os.close(ours)
    assert process.returncode == 0
    return said, shown.decode()


def test_on_a_terminal_a_bar_moves_and_goes_away() -> None:
    script = (
        "from lorasum.ui.reporter import ConsoleReporter\n"
        "with ConsoleReporter() as report:\n"
        "    for done in range(4):\n"
        "        report.progress('converting', done, 3, 'layer [1]')\n"
        "    report.progress('left unfinished', 1, 3)\n"
    )
    said, shown = on_terminal(script, "xterm")
    assert said == b""
    assert "converting" in shown
    assert "layer [1]" in shown
    assert "\x1b[?25l" in shown, "the cursor is hidden while the bar is there"
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "and it is back, whatever was left unfinished"


def test_a_dumb_terminal_gets_plain_lines() -> None:
    script = (
        "from lorasum.ui.reporter import ConsoleReporter\n"
        "with ConsoleReporter() as report:\n"
        "    report.progress('converting', 1, 2, 'layer')\n"
    )
    _, shown = on_terminal(script, "dumb")
    assert "converting: 50% · layer" in shown
    assert "\x1b" not in shown


def test_the_bar_of_a_resumed_training_shows_step_and_time_left() -> None:
    script = (
        "import time\n"
        "from lorasum.shared.events import StepEvent\n"
        "from lorasum.ui.reporter import ConsoleReporter\n"
        "with ConsoleReporter() as report:\n"
        "    for number in range(1, 31):\n"
        "        report.event(StepEvent(number, 40, 0.5, 2.5, 1e-4, 90.0, 4000.0))\n"
        "    time.sleep(0.3)\n"
    )
    _, shown = on_terminal(script, "xterm")
    assert "step 30/40" in shown
    assert "1 h 6 min left" in shown


HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x00\x7f\x08\u202eevil\u2066\u2028\nhint: pay"
ACTED_ON = set(HOSTILE) - set("[2J]0;owned31mevil\nhint: pay")


def hostile(value: Any) -> Any:
    """`value` with every text in it made an attack on the terminal."""
    if isinstance(value, str):
        return value + HOSTILE
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: hostile(getattr(value, field.name)) for field in fields(value)})
    if isinstance(value, Mapping):
        return {hostile(key): hostile(item) for key, item in value.items()}
    return tuple(hostile(item) for item in value) if isinstance(value, list | tuple) else value


@pytest.mark.parametrize(
    "result",
    [
        *RESULTS,
        SAMPLE,
        replace(PREPARED, shown=(RenderedExample("prompt", "completion", 9),), rejected="r", page="r"),
        BatchPrediction("chats", "a", "b", 3, 1.0, (RowFailure(1, "refused"),)),
        STARTED,
        TrainPlan("chats", "chats-1", "/train.py", "m", "/d", {"r": "1"}, {"TrainingJobName": "x"}),
        replace(TORN, remaining=(GONE,)),
    ],
    ids=lambda result: type(result).__name__,
)
def test_no_result_acts_on_the_terminal(result: object, capsys: pytest.CaptureFixture[str]) -> None:
    render.show(hostile(result))
    out = capsys.readouterr().out
    assert not ACTED_ON & set(out)
    if result != StatusResult(()):
        shown = out.replace("\n", "").replace(" ", "")
        assert "␛[2J" in shown or "\\u001b[2J" in shown, "as a sign, or escaped in a request's JSON"


def test_no_error_or_question_acts_on_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    try:
        raise LorasumError(HOSTILE, HOSTILE)
    except LorasumError as error:
        render.error(error, verbose=True)
        render.unexpected(error, verbose=True)
    render.error(ConfigError(HOSTILE, HOSTILE, (HOSTILE, HOSTILE)))
    render.say(HOSTILE)
    assert render.confirm("Do that?", [HOSTILE])
    err = capsys.readouterr().err
    assert not ACTED_ON & set(err)
    lines = err[err.rindex("error: ␛") :].splitlines()
    assert [line[:8] for line in lines[:4]] == ["error: ␛", "  ␛[2J␛]", "  ␛[2J␛]", "hint: ␛["], "no text adds a line"


def test_no_event_or_warning_acts_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ConsoleReporter(verbose=True) as report:
        report.step(HOSTILE)
        report.warn(HOSTILE)
        report.progress(HOSTILE, 1, 1, HOSTILE)
        for kind in ("start", "eval", "saved", "status", "log", "unheard of"):
            values = dict.fromkeys(
                ("device", "compute_dtype", "dtype_reason", "loss_on", "path", "status", "line", "x"), HOSTILE
            )
            report.event(read(kind, lora_targets=[HOSTILE], step=1, **values))
    err = capsys.readouterr().err
    assert not ACTED_ON & set(err)
    assert err.count("␛[2J") > 8


def test_json_holds_every_character_to_the_letter(capsys: pytest.CaptureFixture[str]) -> None:
    render.show(Prediction("chats", "d", HOSTILE), as_json=True)
    assert json.loads(capsys.readouterr().out)["summary"] == HOSTILE


def test_a_summary_is_exact_in_a_pipe_and_visible_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    render.show(Prediction("chats", "d", HOSTILE))
    assert capsys.readouterr().out == HOSTILE + "\n"
    script = f"from lorasum.ui import render; render.text({HOSTILE!r})"
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", script], stdout=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode().replace("\r\n", "\n")
    os.close(ours)
    assert not ACTED_ON & set(shown)
    assert "␛[2J" in shown


def test_text_in_any_script_is_shown_as_it_is() -> None:
    for text in ("Grüße, 東京 🙂👩‍👧", "שלום\u200f, مرحبا\u200e", "a\tb\nc"):
        assert visible(text) == text


def test_an_evaluation_says_how_sure_it_is_and_what_to_look_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    render.show(EVALUATED)
    shown = capsys.readouterr().out
    assert re.search(r"ROUGE-L against base model: better by [\d.]+ \([\d.]+ to [\d.]+\), p = 0.00\d", shown)
    assert "ROUGE-L against itself: no difference that 8 dialogues can show" in shown
    assert "faithfulness 4.2, coverage 3.8, conciseness 5.0 of 5 over 5 summaries by judge-1" in shown
    assert "better than the base model in 3 of 5, worse in 1, $0.12" in shown
    assert "name Oskar" in shown
    assert "/home/ann/scored.jsonl" in shown


def test_an_evaluation_ends_with_its_scores_on_a_narrow_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorasum.ui.terminal._PIPE_WIDTH", 0)
    monkeypatch.setenv("COLUMNS", "80")
    long = replace(TUNED[0], dialogue="Ann: " + "see you at the station " * 100)
    scores = dict.fromkeys(("first 3 sentences", "fine-tuned"), mean_scores(TUNED))
    render.show(replace(EVALUATED, worst=(long,) * 10, scores=scores))
    shown = capsys.readouterr().out.splitlines()
    head = next(place for place, line in enumerate(shown) if "ROUGE-1" in line)
    assert shown[head].split() == ["ROUGE-1", "ROUGE-2", "ROUGE-L", "chrF", "supported"], "a table, not blocks"
    assert max(place for place, line in enumerate(shown) if "station" in line) < head
    assert sum("name Oskar" in line for line in shown) == 3
    assert sum("station" in line for line in shown) < 50


@pytest.mark.parametrize(
    ("size", "said"), [(0, "0 kB"), (4_200, "4 kB"), (26_140_000, "26.1 MB"), (1_320_000_000, "1.32 GB")]
)
def test_a_size_on_disk_is_never_rounded_to_nothing(size: int, said: str) -> None:
    assert on_disk(size) == said


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (STARTED, "training chats · the same command follows it"),
        (replace(TRAINED, reused=True), "trained chats · already done"),
    ],
)
def test_a_job_that_had_completed_is_not_said_to_train(
    result: TrainResult, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    render.show(result)
    assert capsys.readouterr().out.startswith(said)


@pytest.mark.parametrize(
    ("result", "commands"),
    [
        (PREPARED, ["lorasum plan {}", "lorasum train {}"]),
        (PLAN, ["lorasum train {}"]),
        (replace(PLAN, prepared=False), ["lorasum prepare {}"]),
        (replace(PLAN, checks=(Check("memory", False, "too little"),)), []),
        (TRAINED, ["lorasum deploy {}"]),
        (
            replace(TRAINED, gguf=True),
            ["lorasum deploy {}", "lorasum export {} --gguf model.gguf && llama-server -m model.gguf"],
        ),
        (replace(TRAINED, not_merged="no room"), ["lorasum deploy {} --set deploy.serve=adapter"]),
        (replace(TRAINED, not_merged=MERGE_LEFT_OUT), ["lorasum deploy {}"]),
        (STARTED, []),
        (DEPLOYED, ["lorasum predict {} --sample", "lorasum teardown {}"]),
        (RAN, []),
        (replace(RAN, teardown=None), ["lorasum predict {} --sample", "lorasum teardown {}"]),
        (SWEPT, ["lorasum deploy {} --set name=t"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_can_follow_has_the_config_as_it_was_given(result: object, commands: list[str]) -> None:
    assert GIVEN.next_of(result) == [command.format(TYPED) for command in commands]


def test_a_config_from_a_pipe_leaves_nothing_to_paste() -> None:
    piped = Given(Path("-"), ["lora.r=8"])
    assert (piped.next_of(PREPARED), piped.next_of(SWEPT)) == ([], ["lorasum deploy FILE --set lora.r=8 --set name=t"])
    assert (
        piped.completed("run `lorasum deploy` with this config first") == "run `lorasum deploy` with this config first"
    )


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("run `lorasum deploy` with this config first", "run `lorasum deploy {}` first"),
        ("`lorasum teardown` stops it", "`lorasum teardown {}` stops it"),
        ("`lorasum teardown` with the run's config ends it", "`lorasum teardown` with the run's config ends it"),
        ("`lorasum teardown --all` ends them", "`lorasum teardown --all` ends them"),
        ("look with `lorasum status`", "look with `lorasum status`"),
    ],
)
def test_a_command_in_a_message_has_the_config_that_it_needs(said: str, shown: str) -> None:
    assert GIVEN.completed(said) == shown.format(TYPED)


def test_what_can_follow_stands_below_the_result_and_not_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    render.show(DEPLOYED, then=["lorasum teardown run.yaml"])
    assert capsys.readouterr().out.endswith("next\n  lorasum teardown run.yaml\n")
    render.show(DEPLOYED, as_json=True, then=["lorasum teardown run.yaml"])
    assert "next" not in capsys.readouterr().out


def test_a_plan_of_a_sweep_does_not_say_that_it_swept(capsys: pytest.CaptureFixture[str]) -> None:
    render.show(SWEPT)
    assert capsys.readouterr().out.startswith("sweep of chats · 0 trials")
    render.show(replace(SWEPT, page="/home/ann/sweep.html"))
    assert capsys.readouterr().out.startswith("swept chats · 0 trials")


def test_a_log_on_a_terminal_has_sentences_for_events() -> None:
    step = (
        '{"event": "step", "step": 3, "steps": 9, "epoch": 0.3, "loss": 1.5, "learning_rate": 1e-4,'
        ' "tokens_per_second": 90.0, "eta_seconds": 6.0}'
    )
    assert reporter.readable(step) == "step 3/9 · loss 1.500 · 90 tokens/s"
    progress = '{"event": "progress", "what": "ending", "done": 1, "total": 2, "detail": "merging"}'
    assert reporter.readable(progress) == "ending: 1 of 2 merging"
    assert reporter.readable('{"event": "saved", "path": "adapter"}') == "saved the adapter"
    assert reporter.readable("loading {weights}") == "loading {weights}"

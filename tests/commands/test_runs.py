"""runs: what each run takes, has cost and has scored."""

import os
from pathlib import Path

import pytest
from memory_backend import InMemoryBackend, context

from lorasum.commands.clean import clean, plan_clean
from lorasum.commands.deploy import deploy
from lorasum.commands.runs import runs
from lorasum.commands.teardown import teardown
from lorasum.commands.train import train
from lorasum.config.schema import Config
from lorasum.ledger.ledger import Ledger
from lorasum.lifecycle.teardowns import note_teardown
from lorasum.lock import run_lock
from lorasum.reporting import Silent
from lorasum.scoring.evaluation import ScoredSummary
from lorasum.scoring.evaluation_files import write_scored
from lorasum.scoring.style import Style
from lorasum.scoring.text import TextScores
from lorasum.system import paths
from lorasum.system.files import make_folder


def scored(file: Path, *scores: float) -> None:
    texts = [TextScores(*[score] * 5) for score in scores]
    write_scored(file, [ScoredSummary(1, "", (), "", text, (), Style(0, 0, 0, 0)) for text in texts])


def test_no_run_is_an_empty_list(ledger: Ledger) -> None:
    assert runs(ledger).runs == ()


def test_a_run_of_which_nothing_exists_is_no_run(ledger: Ledger) -> None:
    with run_lock("mistyped", None, lambda: None):
        pass  # as a verb does that is refused before it makes anything
    note_teardown("mistyped")
    assert paths.run_dir("mistyped").is_dir()
    assert runs(ledger).runs == ()


def test_a_run_is_live_until_it_is_torn_down(config: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    run = context(config, backend, ledger)
    train(run)
    deploy(run)
    [one] = runs(ledger).runs
    assert (one.run, one.may_run, one.usd, one.rougeL) == ("chats", True, 0.0, None)
    teardown(run)
    [one] = runs(ledger).runs
    assert not one.may_run


def test_the_newest_evaluation_is_the_score(ledger: Ledger) -> None:
    folder = paths.run_dir("desk") / "evaluations"
    scored(folder / "scored-old.jsonl", 10.0)
    scored(folder / "scored-new.jsonl", 20.0, 40.0)
    os.utime(folder / "scored-old.jsonl", (1, 1))
    [one] = runs(ledger).runs
    assert one.rougeL == pytest.approx(30.0)
    assert one.dialogues == 2, "scores of so few are not those of a whole test split"


def test_a_file_with_two_names_takes_its_space_once(ledger: Ledger) -> None:
    folder = paths.run_dir("desk")
    folder.mkdir(parents=True)
    (folder / "model").write_bytes(os.urandom(300_000))
    (folder / "same").hardlink_to(folder / "model")
    [one] = runs(ledger).runs
    assert 300_000 <= one.bytes < 400_000
    assert not one.may_run


def test_a_run_that_was_cleaned_is_no_run(config: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    train(context(config, backend, ledger))
    make_folder(paths.run_dir("chats"))
    clean(ledger, backend, Silent(), plan_clean(ledger, backend, ["chats"]))
    assert runs(ledger).runs == ()


def test_a_run_that_was_cleaned_and_has_cost_something_stays(
    config: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.price = 2.5
    train(context(config, backend, ledger))
    make_folder(paths.run_dir("chats"))
    clean(ledger, backend, Silent(), plan_clean(ledger, backend, ["chats"]))
    assert [one.run for one in runs(ledger).runs] == ["chats"]

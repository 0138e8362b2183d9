"""What people type is taken as they mean it."""

import pytest

from lorasum.cli.arguments import as_meant
from lorasum.errors import LorasumError

OPTIONS = ("--config", "-c", "--set")
"""Options that take a value."""
VERBS = {
    **dict.fromkeys(("prepare", "predict", "plan", "train", "deploy", "run", "status", "logs", "teardown"), OPTIONS),
    "init": ("--from",),
    "config": (),
    "config show": OPTIONS,
    "config schema": (),
}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("help", "--help"),
        ("help train", "train --help"),
        ("help config show", "config show --help"),
        ("train run.yaml --json", "train --config run.yaml --json"),
        ("-v train my/run.YML", "train -v --config my/run.YML"),
        ("-q --json -c run.yaml train", "train -q --json -c run.yaml"),
        ("--set a=b -q config show run.yaml", "config show --set a=b -q --config run.yaml"),
        ("--help train", "train --help"),
        ("train --config run.yaml", "train --config run.yaml"),
        ("train --json /dev/fd/63", "train --json --config /dev/fd/63"),
        ("train --json -q run.yaml", "train --json -q --config run.yaml"),
        ("train --set a=b.yaml run.yaml", "train --set a=b.yaml --config run.yaml"),
        ("train --set=a=b run.yaml", "train --set=a=b --config run.yaml"),
        ("train -qc run.yaml", "train -qc run.yaml"),
        ("train a.yaml --config b.yaml", "train a.yaml --config b.yaml"),
        ("train owner/name run.yaml", "train owner/name run.yaml"),
        ("config show run.yaml --json", "config show --config run.yaml --json"),
        ("config run.yaml", "config run.yaml"),
        ("init run.yaml", "init run.yaml"),
        ("config schema run.yaml", "config schema run.yaml"),
        ("--version", "--version"),
    ],
)
def test_arguments_are_taken_as_they_are_meant(typed: str, meant: str) -> None:
    assert as_meant(typed.split(), VERBS) == meant.split()


OURS = {
    **dict.fromkeys(("ls", "ps", "stat", "stauts"), "status"),
    **dict.fromkeys(("trian", "tran", "strat", "start", "fit", "TRAIN"), "train"),
    **dict.fromkeys(("stop", "cancel", "down", "tear-down", "teardwon", "destory"), "teardown"),
    **dict.fromkeys(("cost", "doctor", "plna"), "plan"),
    "log": "logs",
    "delpoy": "deploy",
    "rnu": "run",
    "prep": "prepare",
    "conf": "config",
    "serve": "deploy",
    "version": "--version",
}


@pytest.mark.parametrize("typed", OURS)
def test_typos_and_verbs_of_other_tools_name_ours(typed: str) -> None:
    with pytest.raises(LorasumError) as error:
        as_meant([typed], VERBS)
    assert error.value.hint == f"did you mean `lorasum {OURS[typed]}`?"


@pytest.mark.parametrize("typed", ["banana", "retry", "hello", "pr"])
def test_a_word_that_is_near_to_nothing_suggests_nothing(typed: str) -> None:
    with pytest.raises(LorasumError) as error:
        as_meant([typed], VERBS)
    assert error.value.hint == "see lorasum --help"


def test_an_existing_verb_is_never_corrected_to_another() -> None:
    assert as_meant(["list"], {**VERBS, "list": ()}) == ["list"]

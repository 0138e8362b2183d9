"""What people type is taken as they mean it."""

import pytest

from lorasum.cli.arguments import as_meant
from lorasum.errors import LorasumError

VERBS = ("init", "train", "status", "logs", "teardown", "config")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("help", "--help"),
        ("help train", "train --help"),
        ("help config show", "config show --help"),
        ("train run.yaml --json", "train --config run.yaml --json"),
        ("-v train my/run.YML", "-v train --config my/run.YML"),
        ("train --config run.yaml", "train --config run.yaml"),
        ("train --set a=b run.yaml", "train --set a=b run.yaml"),
        ("init run.yaml", "init run.yaml"),
        ("--version", "--version"),
        ("trian run.yaml", "trian run.yaml"),
    ],
)
def test_arguments_are_taken_as_they_are_meant(typed: str, meant: str) -> None:
    assert as_meant(typed.split(), VERBS) == meant.split()


@pytest.mark.parametrize(("typed", "verb"), [("ls", "status"), ("log", "logs"), ("stop", "teardown"), ("fit", "train")])
def test_verbs_of_other_tools_name_ours(typed: str, verb: str) -> None:
    with pytest.raises(LorasumError) as error:
        as_meant([typed], VERBS)
    assert error.value.hint == f"did you mean `lorasum {verb}`?"


def test_an_existing_verb_is_never_corrected_to_another() -> None:
    assert as_meant(["list"], (*VERBS, "list")) == ["list"]

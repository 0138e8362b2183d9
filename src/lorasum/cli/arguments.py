"""Turns what people type into what Typer takes: `help train`, `train run.yaml`, and the verbs of other tools. Pure."""

from collections.abc import Collection, Sequence

from lorasum.errors import LorasumError

_ELSEWHERE = {
    "status": ("ls", "list", "ps", "show", "jobs", "info"),
    "logs": ("log", "tail"),
    "init": ("new", "create", "setup"),
    "prepare": ("data", "tokenize", "preprocess"),
    "train": ("fit", "finetune", "fine-tune", "start"),
    "deploy": ("serve", "up"),
    "predict": ("ask", "summarize", "summarise", "generate", "infer"),
    "evaluate": ("eval", "score", "test"),
    "teardown": ("stop", "down", "delete", "destroy", "rm", "kill"),
}
_MEANT = {other: verb for verb, others in _ELSEWHERE.items() for other in others}
_WITHOUT_CONFIG = ("init", "config")


def as_meant(arguments: Sequence[str], verbs: Collection[str]) -> list[str]:
    """The arguments as the command line takes them.

    `help` and `help train` become `--help` and `train --help`. A YAML file right behind a verb gets its `--config`.

    Args:
        verbs: those that there are.

    Raises:
        LorasumError: the verb is one of another tool; the hint names ours.
    """
    place = next((number for number, one in enumerate(arguments) if not one.startswith("-")), None)
    if place is None:
        return list(arguments)
    before, verb, after = list(arguments[:place]), arguments[place], list(arguments[place + 1 :])
    if verb == "help" and "help" not in verbs:
        return [*before, *after, "--help"]
    if verb not in verbs and _MEANT.get(verb) in verbs:
        raise LorasumError(f"there is no verb {verb!r}", f"did you mean `lorasum {_MEANT[verb]}`?")
    if verb in verbs and verb not in _WITHOUT_CONFIG and after and _is_config(after[0]):
        after.insert(0, "--config")
    return [*before, verb, *after]


def _is_config(argument: str) -> bool:
    return not argument.startswith("-") and argument.lower().endswith((".yaml", ".yml"))

"""Turns what people type into what Typer takes: `help train`, `-q train run.yaml`, verbs of other tools. Pure."""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

from lorasum.errors import LorasumError

_ELSEWHERE = {
    "status": ("ls", "list", "ps", "show", "jobs", "info", "watch"),
    "runs": ("history",),
    "logs": ("log", "tail"),
    "init": ("new", "create", "setup", "configure"),
    "prepare": ("data", "tokenize", "preprocess"),
    "plan": ("cost", "costs", "price", "estimate", "check", "doctor", "preflight"),
    "train": ("fit", "finetune", "fine-tune", "tune", "start", "resume"),
    "deploy": ("serve", "up"),
    "predict": ("ask", "chat", "summarize", "summarise", "generate", "infer", "inference"),
    "evaluate": ("eval", "score", "test", "benchmark"),
    "teardown": ("stop", "cancel", "down", "delete", "destroy", "rm", "kill"),
    "push": ("upload", "publish"),
    "export": ("convert", "download", "save"),
    "clean": ("prune", "gc"),
    "--version": ("version",),
}
_MEANT = {other: verb for verb, others in _ELSEWHERE.items() for other in others}
_PIPES = ("/dev/fd/", "/proc/self/fd/")
"""Where bash and zsh put what `<(envsubst < run.yaml)` prints."""
_NEAR, _NEAR_TO_OTHERS = 0.66, 0.78
"""How near a typo is (difflib's ratio): to a verb, as `rnu` to `run`; to another tool's word, as `strat` to `start`."""
_CONFIG = "--config"
_VALUED = (_CONFIG, "-c", "--set")
"""The common options that take a value. They may stand before a verb, as in git and kubectl."""


def as_meant(arguments: Sequence[str], verbs: Mapping[str, Collection[str]]) -> list[str]:
    """The arguments as the command line takes them.

    `help` and `help train` become `--help` and `train --help`. Options before a verb go behind it. A YAML file or a
    shell's pipe, as the first word behind a verb that is neither an option nor the value of one, gets its `--config`.

    Args:
        verbs: those that there are, `config show` among them, each with its options that take a value.

    Raises:
        LorasumError: there is no such verb; the hint names the one that was meant, by another tool's word or a typo.
    """
    place = _first_argument(arguments, _VALUED)
    if place is None:
        return list(arguments)
    before, verb, after = list(arguments[:place]), arguments[place], list(arguments[place + 1 :])
    if verb == "help" and "help" not in verbs:
        return [*after, "--help"]
    if verb not in verbs:
        meant = _meant(verb.lower(), [one for one in verbs if " " not in one])
        raise LorasumError(
            f"unknown verb {verb!r}", f"did you mean `lorasum {meant}`?" if meant else "see lorasum --help"
        )
    if after and f"{verb} {after[0]}" in verbs:
        return [verb, after[0], *_with_config([*before, *after[1:]], verbs[f"{verb} {after[0]}"])]
    return [verb, *_with_config([*before, *after], verbs[verb])]


def _with_config(words: list[str], valued: Collection[str]) -> list[str]:
    """What stands behind a verb, with `--config` before its YAML file. `valued` are its options that take a value."""
    place = _first_argument(words, valued)
    if _CONFIG not in valued or place is None:
        return words
    if not words[place].lower().endswith((".yaml", ".yml")) and not words[place].startswith(_PIPES):
        return words
    if any(one in ("-c", _CONFIG) or one.startswith(f"{_CONFIG}=") for one in words):
        return words  # two configs: the file is refused as one argument too many
    return [*words[:place], _CONFIG, *words[place:]]


def _first_argument(words: Sequence[str], valued: Collection[str]) -> int | None:
    """The place of the first word that is neither an option nor the value of one; None if there is none."""
    takes_next = False
    for place, word in enumerate(words):
        if not takes_next and not word.startswith("-"):
            return place
        last = word if word.startswith("--") else f"-{word[-1]}"  # of `-qc`
        takes_next = not takes_next and last in valued
    return None


def _meant(verb: str, verbs: Collection[str]) -> str | None:
    """What to type instead of an unknown verb; None if nothing is near."""
    words = {word: ours for word, ours in _MEANT.items() if ours in verbs or ours.startswith("-")}
    begun = [ours for ours in verbs if ours.startswith(verb)]
    if verb in words or len(begun) == 1:
        return words.get(verb) or begun[0]
    near = get_close_matches(verb, [*verbs, *words], n=1, cutoff=_NEAR_TO_OTHERS)
    near = near or get_close_matches(verb, verbs, n=1, cutoff=_NEAR)
    return words.get(near[0], near[0]) if near else None

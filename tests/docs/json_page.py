"""docs/json.md: what people wrote, and below it the fields of each document, from the records that verbs return."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from sources import ROOT

from lorasum.commands import (
    clean,
    deploy,
    evaluate,
    export,
    init,
    init_from,
    plan,
    predict,
    predict_batch,
    predict_file,
    prepare,
    push,
    report,
    run,
    runs,
    status,
    sweep,
    teardown,
    train,
)

_PAGE: Final = ROOT / "docs" / "json.md"
_MADE: Final = "## Each document"
"""The heading from which on the page is made."""
MAKERS: Final[Mapping[str, Callable[..., object]]] = {
    "init": init.init,
    "init --example": init.write_example,
    "init --from": init_from.init_from,
    "prepare": prepare.prepare,
    "plan": plan.plan,
    "train": train.train,
    "train --no-wait": train.start_training,
    "train --dry-run": train.plan_training,
    "sweep": sweep.sweep,
    "deploy": deploy.deploy,
    "deploy --dry-run": deploy.plan_deploy,
    "predict": predict.predict,
    "predict --stream": predict.stream,
    "predict --input": predict_file.predict_file,
    "predict --batch": predict_batch.predict_batch,
    "evaluate": evaluate.evaluate,
    "teardown": teardown.teardown,
    "teardown --all": teardown.teardown_all,
    "run": run.run,
    "push": push.push,
    "export": export.export,
    "status": status.status,
    "runs": runs.runs,
    "clean": clean.clean,
    "report": report.report,
}
"""What makes the document of each verb. Its annotation says which record that is."""
_SIMPLE: Final = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "`true`, `false`",
    datetime: "time",
    object: "any",
    Any: "any",
}


def json_documents() -> str:
    """The page of all documents."""
    written = _PAGE.read_text(encoding="utf-8").partition(_MADE)[0]
    verbs: dict[type, list[str]] = {}
    for verb, maker in MAKERS.items():
        for record in _records(inspect.signature(maker).return_annotation):
            verbs.setdefault(record, []).append(f"`lorasum {verb}`")
    titles = {record: ", ".join(names) for record, names in verbs.items()}
    inner = {record: record.__name__ for record in sorted(parts_of(verbs), key=lambda one: one.__name__)}
    documents, parts = ("\n".join(_section(one, titles | inner) for one in part) for part in (titles, inner))
    return (
        f"{written}{_MADE}\n\nMade from the code (`python tests/docs/pages.py`).\n\n{documents}\n"
        f"## Objects in them\n\n{parts}"
    )


def field_names(maker: Callable[..., object]) -> set[str]:
    """The fields of what a verb returns; of a stream, of its last item."""
    *_, record = _records(inspect.signature(maker).return_annotation)
    return {one.name for one in fields(record)}


def parts_of(documents: Mapping[type, object]) -> set[type]:
    """The records that are in others, at any depth."""
    found: set[type] = set()
    ahead = list(documents)
    while ahead:
        inner = {part for kind in get_type_hints(ahead.pop()).values() for part in _records(kind)} - found
        found |= inner
        ahead += inner
    return found - documents.keys()


def _records(kind: Any) -> Iterator[type]:
    """The records in a type, such as one of `tuple[Progress, ...] | None`."""
    if is_dataclass(kind) and isinstance(kind, type):
        yield kind
    for inner in get_args(kind):
        yield from _records(inner)


def _section(record: type, titles: Mapping[type, str]) -> str:
    """A record's heading, what it is, and its fields."""
    about, said = _about(record)
    kinds = get_type_hints(record)
    names = [one.name for one in fields(record)]
    may_be_nan = [name for name, text in said.items() if kinds[name] is float and "null" in text.lower()]
    kinds |= dict.fromkeys(may_be_nan, float | None)
    rows = "\n".join(f"| `{name}` | {_kind(kinds[name], titles)} | {said.get(name, '')} |" for name in names)
    return f"### {titles[record]}\n\n{about}\n\n| field | type | |\n|---|---|---|\n{rows}\n"


def _about(record: type) -> tuple[str, dict[str, str]]:
    """What a record's docstring says of it, and what is said of each of its fields there or below the field."""
    about = inspect.cleandoc(record.__doc__ or "").partition("\nAttributes:\n")[0]
    said: dict[str, str] = {}
    for base in reversed(record.__mro__[:-1]):
        entries = inspect.cleandoc(base.__doc__ or "").partition("\nAttributes:\n")[2]
        for names, text in re.findall(r"(?m)^    (\w[\w, ]*): (.*(?:\n {5,}.*)*)", entries):
            said |= dict.fromkeys(names.split(", "), _line(text))
        below = re.findall(r'(?m)^    (\w+): .*\n    """((?:.|\n)*?)"""', inspect.getsource(base))
        said |= {name: _line(text) for name, text in below}
    return _line(about), said


def _line(text: str) -> str:
    """One line, with JSON's word for None and NaN."""
    said = re.sub(r"\b(None|NaN)\b", "null", " ".join(text.split())).replace("|", "\\|")
    return said[:1].upper() + said[1:]


def _kind(kind: Any, titles: Mapping[type, str]) -> str:
    """A type in JSON's words: `list of number`, `time or null`, or a record by its title on the page."""
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if title := titles.get(kind):
        anchor = re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-")
        return f"[{title.partition(', ')[0]}](#{anchor})"
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        others = " or ".join(_kind(one, titles) for one in inner if one is not NoneType)
        return f"{others} or null" if NoneType in inner else others
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is tuple:
        return f"list of {_kind(inner[0], titles)}"
    return f"object: {_kind(inner[1], titles)} by name"

"""docs/configuration.md, made from the config's models, docs/troubleshooting.md, made from the errors in the code, the
verbs of docs/cli.md, and the documents of docs/json.md.

`python tests/docs/pages.py` writes them. What is above the tables of keys, of errors and of verbs is written by hand.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cli_page import command_line
from json_page import json_documents
from sources import ROOT, both_sides

from lorasum.config.schema import Config

DOCS = ROOT / "docs"
_KEYS, _ERRORS_BEGIN = "\n## The file\n", "## Errors"  # where the parts that are made begin
_ERRORS = re.compile(r"\w*(Error|Rejected|Failure)")
_AREAS = {
    "lorasum/config/": "The config",
    "lorasum/commands/init": "The config",
    "lorasum/data/": "The data",
    "shared/base_": "The base model",
    "lorasum/models/hub": "The Hugging Face hub",
    "lorasum/models/": "The base model",
    "lorasum/scoring/": "Scores",
    "lorasum/lifecycle/": "Jobs and endpoints",
    "lorasum/backends/completions": "Jobs and endpoints",
    "lorasum/commands/": "The verbs",
    "lorasum/cli/": "The verbs",
    "lorasum/backends/local/": "This machine",
    "lorasum/backends/sagemaker/": "Amazon SageMaker",
    "lorasum/aws": "Amazon SageMaker",
    "start.py": "Amazon SageMaker",
    "lorasum/": "Records of runs",
    "": "The training",
}
_LEAST_WORDS = 4  # of a message, without what is put in: fewer, such as "… is …", cannot be found by them
_PUT_IN = {"POLICIES": "docs/iam.md has the policies"}  # constants in messages
_LONGEST_VALUE = 60  # characters of a default
_UNBOUNDED = 2**31 - 1  # a limit from here on is none that anybody meets
_USUAL = {
    "backend", "model.id", "data.train", "data.test_fraction", "data.columns.dialogue", "data.columns.summary",
    "data.max_length", "quantization", "lora.r", "training.epochs", "training.learning_rate", "predict.max_new_tokens",
}  # fmt: skip
"""Keys that most people set. The page has them in bold."""


def configuration() -> str:
    """The page of all keys."""
    schema = Config.model_json_schema()
    sections = "\n".join(_sections("", schema, schema["$defs"]))
    return f"{_by_hand('configuration.md', _KEYS)}{sections}"


def _sections(path: str, schema: Mapping[str, Any], models: Mapping[str, Any]) -> Iterator[str]:
    """The table of a section, and then those of the sections in it."""
    rows, inner = [], []
    for name, field in schema["properties"].items():
        key = f"{path}{name}"
        model = model_of(field, models)
        if model is not None:
            inner.append((f"{key}.", model))
        else:
            default = "" if name in schema.get("required", ()) else _short(field.get("default"))
            said = " ".join(field.get("description", "").split()).replace("|", "\\|")
            shown = f"**`{key}`**" if key in _USUAL else f"`{key}`"
            rows.append(f"| {shown} | {_kind(field, models)} | {default} | {said} |")
    title = f"## `{path.rstrip('.')}`" if path else "## The file"
    about = " ".join(schema.get("description", "").split())
    if rows:
        yield f"\n{title}\n\n{about}\n\n| key | values | default | |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    for inner_path, model in inner:
        yield from _sections(inner_path, model, models)


def model_of(field: Mapping[str, Any], models: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The section that a field holds; None if it holds a value."""
    for one in (field, *field.get("anyOf", ()), *field.get("allOf", ())):
        model = models.get(str(one.get("$ref", "")).rpartition("/")[2])
        if model and "properties" in model:
            return dict(model)
    return None


def _kind(field: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    """What a value may be, in a few words."""
    if "anyOf" in field:
        kinds = [_kind(one, models) for one in field["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    kind = {"string": "text", "integer": "integer", "number": "number", "boolean": "`true`, `false`"}.get(
        field.get("type", ""), field.get("type", "")
    )
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}), models)}"
    if field.get("type") == "object":
        return "names and values"
    bounds = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "to"}
    limits = {word: field[name] for name, word in bounds.items() if abs(field.get(name, _UNBOUNDED)) < _UNBOUNDED}
    if limits.get("above") == 0:
        del limits["above"]
        kind = f"positive {kind}"
    return " ".join([kind, *(f"{word} {limit:,}" for word, limit in limits.items())])


def _short(value: object) -> str:
    """A default; a dash where nothing is set."""
    if value is None:
        return "–"
    text = '""' if value == "" else str(value).lower() if isinstance(value, bool) else str(value)
    text = text.replace("\n", "↵").replace("|", "\\|")
    return f"`{text}`" if len(text) <= _LONGEST_VALUE else f"`{text[:_LONGEST_VALUE]}…`"


def troubleshooting() -> str:
    """The page of errors and what to do about them."""
    found: dict[str, dict[str, str]] = {title: {} for title in _AREAS.values()}
    known: set[str] = set()
    for place, message, hint in _told():
        area = next(title for prefix, title in _AREAS.items() if place.startswith(prefix))
        if message not in known:
            known.add(message)
            found[area][message] = hint
    parts = [
        f"### {title}\n\n| error | what to do |\n|---|---|\n"
        + "\n".join(f"| {message} | {hint} |" for message, hint in sorted(rows.items()))
        for title, rows in found.items()
        if rows
    ]
    tables = "\n\n".join(parts)
    return f"{_by_hand('troubleshooting.md', _ERRORS_BEGIN)}{_ERRORS_BEGIN}\n\n{tables}\n"


def _by_hand(page: str, until: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8").partition(until)[0]


def _told() -> Iterator[tuple[str, str, str]]:
    """Place, message and hint of each error that is made with both as texts."""
    for place, tree in both_sides():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and len(node.args) >= 2 and _ERRORS.fullmatch(_name(node.func)):
                message, hint = (_text(one) for one in node.args[:2])
                if len(re.findall(r"[\w.'-]+", message)) >= _LEAST_WORDS and hint.strip("… "):
                    yield place, message, hint


def _name(function: ast.expr) -> str:
    return ast.unparse(function).rpartition(".")[2]


def _text(node: ast.expr) -> str:
    """The text that an expression makes, with … for what is put in."""
    return re.sub("…+", "…", " ".join(_raw(node).split()).replace("|", "\\|").replace("<", "\\<"))


def _raw(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_raw, node.values))
    if isinstance(node, ast.FormattedValue):
        return _put_in(node.value)
    return _raw(node.left) + _raw(node.right) if isinstance(node, ast.BinOp) else "…"


def _put_in(node: ast.expr) -> str:
    """What is put into a message: a page of the docs by its name, or …."""
    if isinstance(node, ast.Call) and _name(node.func) == "doc":
        return f"docs/{ast.literal_eval(node.args[0])}.md"
    return _PUT_IN.get(node.id, "…") if isinstance(node, ast.Name) else "…"


PAGES = {
    "configuration.md": configuration,
    "troubleshooting.md": troubleshooting,
    "cli.md": command_line,
    "json.md": json_documents,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")

"""docs/configuration.md, made from the config's models, docs/troubleshooting.md, made from the errors in the code, and
the verbs of docs/cli.md.

`python tests/docs/pages.py` writes them anew.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cli_page import command_line
from sources import ROOT, both_sides

from lorasum.config.schema import Config

DOCS = ROOT / "docs"
_ERRORS = re.compile(r"\w*(Error|Rejected|Failure)")
# A message in which nobody could recognise their own, such as "… in …".
_BARE = re.compile(r"(?:run|has|no|in|on|[…:,. ])*")
_AREAS = {
    "lorasum/config/": "The config",
    "lorasum/commands/init": "The config",
    "lorasum/data/": "The data",
    "lorasum/model_": "The base model",
    "lorasum/gguf": "The base model",
    "lorasum/base_look": "The base model",
    "lorasum/hub": "The Hugging Face hub",
    "contract": "The training",
    "engine/": "The training",
    "train.py": "The training",
    "lorasum/lifecycle/": "Jobs and endpoints",
    "lorasum/commands/": "The verbs",
    "lorasum/cli/": "The verbs",
    "lorasum/backends/local/": "This machine",
    "lorasum/backends/sagemaker/": "Amazon SageMaker",
    "lorasum/aws": "Amazon SageMaker",
    "lorasum/": "Everything else",
    "": "The container",
}
_LONGEST_VALUE = 60  # characters of a default


def configuration() -> str:
    """The page of all keys."""
    schema = Config.model_json_schema()
    sections = "\n".join(_sections("", schema, schema["$defs"]))
    return f"""# Configuration

Every key of the YAML file. This page is made from the code (`python tests/docs/pages.py`).
`lorasum config show -c run.yaml` prints a file with all its defaults, and `lorasum config schema` what editors complete
keys with. A key that is not here is an error that names the nearest one. `--set training.epochs=1` overrides a key.

A file needs `name`, `model.id`, and where the chats are; everything else has a default.
{sections}"""


def _sections(path: str, schema: Mapping[str, Any], models: Mapping[str, Any]) -> Iterator[str]:
    """The table of a section, and then those of the sections in it."""
    rows, inner = [], []
    for name, field in schema["properties"].items():
        key = f"{path}{name}"
        model = model_of(field, models)
        if model is not None:
            inner.append((f"{key}.", model))
        else:
            default = "" if name in schema.get("required", ()) else f"`{_short(field.get('default'))}`"
            said = " ".join(field.get("description", "").split()).replace("|", "\\|")
            rows.append(f"| `{key}` | {_kind(field, models)} | {default} | {said} |")
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
    limits = [f"{word} {field[name]:,}" for name, word in bounds.items() if name in field]
    return " ".join([kind, *limits])


def _short(value: object) -> str:
    if value is None:
        return "none"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = text.replace("\n", "↵").replace("|", "\\|")
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def troubleshooting() -> str:
    """The page of errors and what to do about them."""
    found: dict[str, dict[str, str]] = {title: {} for title in _AREAS.values()}
    for place, message, hint in _told():
        area = next(title for prefix, title in _AREAS.items() if place.startswith(prefix))
        found[area].setdefault(message, hint)
    parts = [
        f"## {title}\n\n| error | what to do |\n|---|---|\n"
        + "\n".join(f"| {message} | {hint} |" for message, hint in sorted(rows.items()))
        for title, rows in found.items()
        if rows
    ]
    tables = "\n\n".join(parts)
    return f"""# Troubleshooting

lorasum says what went wrong in a line that begins with `error:`, and what to do in one that begins with `hint:`. They
are here, taken from the code itself (`python tests/docs/pages.py`). … stands for a name or a number, and errors that
have no other words are left out.
`-v` shows the traceback, and `lorasum env` prints what a bug report needs.

{tables}
"""


def _told() -> Iterator[tuple[str, str, str]]:
    """Place, message and hint of each error that is made with both as texts."""
    for place, tree in both_sides():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and len(node.args) >= 2 and _ERRORS.fullmatch(_name(node.func)):
                message, hint = (_text(one) for one in node.args[:2])
                if not _BARE.fullmatch(message) and hint.strip("… "):
                    yield place, message, hint


def _name(function: ast.expr) -> str:
    return ast.unparse(function).rpartition(".")[2]


def _text(node: ast.expr) -> str:
    """The text that an expression makes, with … for what is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
    elif isinstance(node, ast.JoinedStr):
        text = "".join(one.value if isinstance(one, ast.Constant) else "…" for one in node.values)  # type: ignore[misc]
    elif isinstance(node, ast.BinOp):
        text = _text(node.left) + _text(node.right)
    else:
        text = "…"
    return re.sub("…+", "…", " ".join(text.split()).replace("|", "\\|").replace("<", "\\<"))


PAGES = {"configuration.md": configuration, "troubleshooting.md": troubleshooting, "cli.md": command_line}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")

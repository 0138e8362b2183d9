"""Read a config file and --set overrides into a Config, or say everything that is wrong with them at once."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeGuard

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lorasum.config.renamed import KeyPath, Places, dotted, rename
from lorasum.config.schema import Config
from lorasum.errors import ConfigError
from lorasum.files import first_line


def _ignore(_text: str) -> None:
    """The warning is not shown, as in library use and in tests."""


def load_config(path: Path, overrides: Sequence[str] = (), warn: Callable[[str], None] = _ignore) -> Config:
    """The config in `path`, with `overrides` (`training.epochs=1`; values are YAML) put over it.

    A relative path in the file is relative to the file; in an override, to the current folder, where the shell
    completed it. Nothing is expanded but a leading `~/`. A key or value under an old name is accepted, and `warn` is
    told so.

    Raises:
        ConfigError: the file cannot be read, or something in it or in the overrides is wrong. `problems` has a line
            for every wrong field, each with the place it was written.
    """
    data, places, problems = _read(path)
    problems += rename(data, places, warn)
    for override in overrides:
        problems += _override(data, places, override)
        problems += rename(data, places, warn, f"--set {override}")
    _fill_empty_sections(data)
    _resolve_paths(data, places, path.parent)
    try:
        # Strict, so that `r: true` is no rank of 1; as JSON, so that strict still takes text for a path.
        config = Config.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        problems += _explain(error, data, places, str(path))
    if problems:
        several = f"{len(problems)} problems in {path}"
        raise ConfigError(
            problems[0] if len(problems) == 1 else several,
            "`lorasum config schema` describes every key",
            tuple(problems),
        )
    return config


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, nearer to YAML 1.2: 1e-3 is a number, a date is text, and so is every key."""

    yaml_implicit_resolvers = {  # noqa: RUF012  the name and kind are PyYAML's
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        return {str(key): value for key, value in super().construct_mapping(node, deep).items()}


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _read(path: Path) -> tuple[dict[str, Any], Places, list[str]]:
    """The file's content, the place of every key, and one problem for each key that is there twice."""
    try:
        loader = _Loader(path.read_text(encoding="utf-8-sig"))
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}: not a mapping of keys to values", "start with `name:`, `model:` and `data:`")
        places: Places = {}
        problems = _walk(node, (), str(path), places)
        return loader.construct_document(node), places, problems
    except OSError as error:
        raise ConfigError(f"{path}: cannot read it: {error.strerror}", "check the path given to --config") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text, at byte {error.start}", "save the file as UTF-8") from None
    except yaml.YAMLError as error:
        message, line = _yaml_problem(error)
        raise ConfigError(f"{path}{line}: {message}", "check colons, quotes and indentation there") from None
    except RecursionError:
        raise ConfigError(f"{path}: an alias holds itself, or nesting is too deep", "write the values out") from None


def _yaml_problem(error: yaml.YAMLError) -> tuple[str, str]:
    """What PyYAML says in one line, and `:line` where it knows it."""
    if isinstance(error, yaml.MarkedYAMLError):
        start, mark = error.context_mark, error.problem_mark or error.context_mark
        since = f" from line {start.line + 1}" if start and mark and start.line != mark.line else ""
        message = f"{error.context}{since}, {error.problem}" if error.context else str(error.problem)
        return message, f":{mark.line + 1}" if mark else ""
    return first_line(error), ""


def _walk(node: yaml.Node, at: KeyPath, file: str, places: Places) -> list[str]:
    """Note the place of every key under `node`; return one problem for each key that is there twice."""
    children: list[tuple[str | int, yaml.Node, yaml.Node]] = []  # a key, where it stands, its value
    if isinstance(node, yaml.MappingNode):
        children = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(index, value, value) for index, value in enumerate(node.value)]
    problems = []
    for key, where, value in children:
        path, place = (*at, key), f"{file}:{where.start_mark.line + 1}"
        if path in places:
            problems.append(f"{place}: {dotted(path)}: duplicate key, already at {places[path]}")
        places[path] = place
        problems += _walk(value, path, file, places)
    return problems


def _override(data: dict[str, Any], places: Places, override: str) -> list[str]:
    """Put one `key.path=value` into `data`; return what is wrong with it."""
    place = f"--set {override}"
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        return [f"{place}: write it as key=value, such as training.epochs=1"]
    try:
        value = yaml.load(text, _Loader)  # noqa: S506  it is a SafeLoader
    except yaml.YAMLError as error:
        return [f"{place}: {_yaml_problem(error)[0]}"]
    section = data
    for depth, key in enumerate(keys[:-1], start=1):
        if section.get(key) is None:
            section[key] = {}
            places.setdefault(tuple(keys[:depth]), place)
        section = section[key]
        if not isinstance(section, dict):
            return [f"{place}: {'.'.join(keys[:depth])} is a value, not a section"]
    section[keys[-1]] = value
    path = tuple(keys)
    for replaced in [known for known in places if known[: len(path)] == path]:
        del places[replaced]
    places[path] = place
    return []


def _fill_empty_sections(data: dict[str, Any]) -> None:
    """`lora:` with all its keys commented out means the defaults, as it would without the line."""
    for name, field in Config.model_fields.items():
        if _is_section(field.annotation) and name in data and data[name] is None:
            data[name] = {}


def _resolve_paths(data: dict[str, Any], places: Places, folder: Path) -> None:
    """Make the paths in `data` absolute: data.train, data.test, and a model.id that is written as one."""
    for section, key in (("data", "train"), ("data", "test"), ("model", "id")):
        values = data.get(section)
        value = values.get(key) if isinstance(values, dict) else None
        base = Path() if _place(places, (section, key), "").startswith("--set ") else folder
        if isinstance(value, list):
            data[section][key] = [_absolute(item, base) if isinstance(item, str) else item for item in value]
        elif isinstance(value, str) and (section == "data" or re.match(r"(\.\.?|~)(/|$)", value)):
            data[section][key] = _absolute(value, base)


def _absolute(path: str, base: Path) -> str:
    """An s3:// address stays as it is; so does the pattern in a path."""
    if path.startswith("s3://"):
        return path
    expanded = Path(path).expanduser() if re.match("~(/|$)", path) else Path(path)
    return str((base / expanded).resolve())


def _explain(error: ValidationError, data: Any, places: Places, file: str) -> list[str]:
    """One line per wrong field, in the order they were written."""
    found: dict[KeyPath, list[str]] = {}
    got: dict[KeyPath, str] = {}
    for detail in error.errors():
        if detail["type"] == "literal_error" and isinstance(detail["input"], list):
            continue  # of `auto` or a list, it is the list that was meant; its own errors are there too
        path = _key_path(detail, data)
        found.setdefault(path, []).append(_message(detail))
        got[path] = _got(detail)
    order = list(places.values())
    lines = []
    for path, messages in found.items():
        place = _place(places, path, file)
        message = " or ".join(dict.fromkeys(messages)).replace(" or must be", " or")
        lines.append((order.index(place) if place in order else -1, f"{place}: {dotted(path)}: {message}{got[path]}"))
    return [line for _, line in sorted(lines, key=lambda line: line[0])]


def _key_path(detail: ErrorDetails, data: Any) -> KeyPath:
    """The keys in pydantic's location, which also names the branch of a union that was tried."""
    path: KeyPath = ()
    for part in detail["loc"]:
        known = isinstance(part, int) if isinstance(data, list) else isinstance(data, dict) and part in data
        if known:
            data = data[part]
        if known or detail["type"] == "missing":
            path = (*path, part)
    return path


def _message(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return f"unknown key, {_suggestion([str(part) for part in detail['loc']])}"
        case "model_type":
            return "must be a section of keys and values"
        case "string_pattern_mismatch":
            return "must be lower-case letters and digits, with single hyphens between them"
        case "value_error":
            return str(detail["ctx"]["error"])
        case _:
            message = detail["msg"].replace("Input should", "must").replace("String should", "must")
            return message.replace("a valid array", "a list").replace("a valid integer", "a whole number")


def _got(detail: ErrorDetails) -> str:
    value = detail["input"]
    if detail["type"] in ("missing", "extra_forbidden") or isinstance(value, dict | list):
        return ""
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return f" (got {text if len(text) <= 60 else text[:57] + '...'})"


def _suggestion(path: list[str]) -> str:
    """The nearest valid key of the same section, else of any section, else the keys that are valid here."""
    names = list(_keys(Config))
    here = [name for name in names if name.rpartition(".")[0] == ".".join(path[:-1])]
    for candidates, cutoff in ((here, 0.6), (names, 0.85)):
        by_key = {name.rpartition(".")[2]: name for name in reversed(candidates)}
        if near := get_close_matches(path[-1], by_key, n=1, cutoff=cutoff):
            return f"did you mean {by_key[near[0]]}?"
    return f"valid here: {', '.join(name.rpartition('.')[2] for name in here)}"


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every valid key, dotted, sections before what they hold."""
    for name, field in model.model_fields.items():
        yield prefix + name
        if _is_section(field.annotation):
            yield from _keys(field.annotation, f"{prefix}{name}.")


def _is_section(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _place(places: Places, path: KeyPath, otherwise: str) -> str:
    """Where `path` was written, or the section it is missing from."""
    return next((places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in places), otherwise)

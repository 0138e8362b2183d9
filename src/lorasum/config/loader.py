"""Read a config file or a mapping, and --set overrides, into a Config, or say all that is wrong with them at once."""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from lorasum.config.explain import explain, place_of, shorten
from lorasum.config.key_paths import KeyPath, Places, Problems, dotted, section_at
from lorasum.config.renamed import rename
from lorasum.config.schema import Config
from lorasum.config.secrets import redact
from lorasum.config.suggest import section_of
from lorasum.config.yaml_reader import LONGEST, TooMuchError, read, unsafe
from lorasum.errors import ConfigError
from lorasum.system.files import first_line, open_source, or_stdin

_MOST_SHOWN = 50  # problems of one config
_DEEPEST_KEY = 8  # words in the key of an override
_BREAKS_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029]")
"""Characters that stand for themselves in JSON, which is YAML otherwise, and for line ends or nothing in YAML."""


def load_config(path: Path, overrides: Sequence[str] = (), warn: Callable[[str], None] = lambda _text: None) -> Config:
    """The config in `path`, with `overrides` (`training.epochs=1`; values are YAML) put over it.

    A relative path in the file is relative to the file; in an override, to the current folder, where the shell
    completed it, and in a config that comes through a pipe. `-` is stdin. Nothing is expanded but a leading `~/`. A key
    under another name is accepted, and `warn` is told so.

    Raises:
        ConfigError: the file cannot be read, or something in it or in the overrides is wrong. `problems` has a line
            for every wrong field, each with the place it was written.
    """
    path = or_stdin(path)
    folder = Path() if is_piped(path) else path.parent
    return _checked(_text(path), str(path), lambda line: f"{path}:{line}", folder, overrides, warn)


def config_of(
    values: Mapping[str, object], overrides: Sequence[str] = (), warn: Callable[[str], None] = lambda _text: None
) -> Config:
    """As `load_config`, of a mapping with the keys of a file. Relative paths are relative to the current folder.

    Raises:
        ConfigError: as `load_config`.
    """
    name = "the config"
    try:
        text = json.dumps({**values}, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name} cannot be read: {error}", "give a mapping of the keys of a YAML file") from None
    text = _BREAKS_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return _checked(text, name, lambda _line: name, Path(), overrides, warn)


def _plain(value: object) -> object:
    """What JSON can hold: the number of a numpy scalar, the text of anything else."""
    number = getattr(value, "item", None)
    return number() if callable(number) else str(value)


def _checked(
    text: str,
    name: str,
    place: Callable[[int], str],
    folder: Path,
    overrides: Sequence[str],
    warn: Callable[[str], None],
) -> Config:
    """The config that a text holds.

    Args:
        name: of what holds the text, for errors.
        place: says where a line of it is, counted from 1.
        folder: what relative paths in it are relative to.
    """
    data, places, problems = _read(text, name, place)
    problems += rename(data, places, warn)
    for override in overrides:
        problems += _override(data, places, override)
        problems += rename(data, places, warn, _said(override))
    _fill_empty_sections(data)
    problems += _resolve_paths(data, places, folder)
    config = None
    try:
        # Strict, so that `r: true` is not a rank of 1; as JSON, so that strict still takes text for a path.
        config = Config.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        said = {path for path, _ in problems}
        explained = explain(error.errors(include_url=False), data, places, name, _MOST_SHOWN)
        problems += [(at, line) for at, line in explained if at not in said]
    if config is None or problems:
        raise _config_error(places, problems)
    return config


def is_piped(path: Path) -> bool:
    """Whether a config comes through a pipe: `-`, /dev/stdin, or the /dev/fd/63 and /proc/1/fd/63 of a shell."""
    if path.is_relative_to(Path("/dev") / "shm"):  # a folder of files like any other
        return False
    return str(path) == "-" or path.is_relative_to("/dev") or path.is_relative_to("/proc")


def _config_error(places: Places, problems: Problems) -> ConfigError:
    """All problems in the order they were written."""
    order = {place: number for number, place in enumerate(dict.fromkeys(places.values()))}
    problems = sorted(problems, key=lambda problem: order.get(place_of(places, problem[0], ""), -1))
    lines = [redact(line) for _, line in problems[:_MOST_SHOWN]]
    more = [f"and {len(problems) - _MOST_SHOWN:,} more"] if len(problems) > _MOST_SHOWN else []
    several = f"{len(problems)} problems with the config"
    return ConfigError(
        lines[0] if len(problems) == 1 else several, "`lorasum config schema` describes every key", (*lines, *more)
    )


def _read(text: str, name: str, place: Callable[[int], str]) -> tuple[dict[str, Any], Places, Problems]:
    """What the text holds, the place of every key, and what is wrong in it before any key is looked at."""
    try:
        data, places, problems = read(text, place)
    except yaml.YAMLError as error:
        message, line = _yaml_problem(error)
        raise ConfigError(f"{name}{line}: {message}", "check colons, quotes and indentation there") from None
    except TooMuchError as error:
        raise ConfigError(f"{name}: {error}", "write the values out, and no more than a run needs") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: not a mapping of keys to values", "start with `name:`, `model:` and `data:`")
    return data, places, problems


def _near(path: Path) -> list[Path]:
    """The file beside it whose name is nearest to one that is not there."""
    files = {one.name: one for one in path.parent.glob("*.y*ml")}
    return [files[name] for name in get_close_matches(path.name, files, n=1)]


def _text(path: Path) -> str:
    try:
        with open_source(path) as file:
            content = file.read(LONGEST + 1)  # no more, whatever it is: a device has no end
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else error
        near = _near(path) if isinstance(error, FileNotFoundError) else []
        hint = f"did you mean {near[0]}?" if near else "check the path of the config"
        raise ConfigError(f"{path}: cannot read it: {reason}", hint) from None
    if len(content) > LONGEST:
        raise ConfigError(f"{path}: longer than {LONGEST:,} bytes, so it is not a config", "give --config a YAML file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text, at byte {error.start}", "save the file as UTF-8") from None


def _yaml_problem(error: yaml.YAMLError) -> tuple[str, str]:
    """PyYAML's message in one line, and `:line` if it knows the line."""
    if isinstance(error, yaml.MarkedYAMLError):
        start, mark = error.context_mark, error.problem_mark or error.context_mark
        since = f" from line {start.line + 1}" if start and mark and start.line != mark.line else ""
        message = f"{error.context}{since}, {error.problem}" if error.context else str(error.problem)
        return shorten(message, 200), f":{mark.line + 1}" if mark else ""
    return shorten(first_line(error), 200), ""


def _said(override: str) -> str:
    """An override as the place of an error: in one line, and with a secret left out."""
    return f"--set {shorten(redact(override), 100)}"


def _override(data: dict[str, Any], places: Places, override: str) -> Problems:
    """Put one `key.path=value` into `data`; return what is wrong with it."""
    place = _said(override)
    named, equals, text = override.partition("=")
    path = tuple(named.strip().split("."))
    if not equals or not all(path) or unsafe(named) or len(path) > _DEEPEST_KEY:
        return [(path, f"{place}: write it as key=value, such as training.epochs=1")]
    try:
        value, inner, problems = read(text, lambda _line: place, path)
    except yaml.YAMLError as error:
        return [(path, f"{place}: {_yaml_problem(error)[0]}")]
    except TooMuchError as error:
        return [(path, f"{place}: {error}")]
    section = data
    for depth, key in enumerate(path[:-1], start=1):
        if section.get(key) is None:
            section[key] = {}
            places.setdefault(path[:depth], place)
        section = section[key]
        if not isinstance(section, dict):
            return [(path, f"{place}: {dotted(path[:depth])} is a value, not a section")]
    section[path[-1]] = value
    for replaced in [known for known in places if known[: len(path)] == path]:
        del places[replaced]
    places |= {path: place, **inner}
    return problems


def _fill_empty_sections(data: dict[str, Any], model: type[BaseModel] = Config) -> None:
    """`lora:` with all its keys commented out means the defaults, as it would without the line."""
    for name, field in model.model_fields.items():
        section = section_of(field.annotation)
        if section is not None and section is field.annotation and name in data and data[name] is None:
            data[name] = {}
        if section is not None and isinstance(data.get(name), dict):
            _fill_empty_sections(data[name], section)


def _resolve_paths(data: dict[str, Any], places: Places, folder: Path) -> Problems:
    """Make the paths in `data` absolute: data.train, data.test, and the id of a model that is written as one."""
    problems = []
    of_models: tuple[KeyPath, ...] = (("model", "id"), ("evaluate", "consistency_model", "id"))
    for at in (("data", "train"), ("data", "test"), *of_models):
        section = section_at(data, at) or {}
        value = section.get(at[-1])
        place = place_of(places, at, "")
        base = Path() if place.startswith("--set ") else folder
        try:
            if isinstance(value, list):
                section[at[-1]] = [_absolute(item, base) if isinstance(item, str) else item for item in value]
            elif isinstance(value, str) and (at not in of_models or re.match(r"(\.\.?|~)(/|$)", value)):
                section[at[-1]] = _absolute(value, base)
        except (OSError, RuntimeError) as error:  # a link that leads to itself, no home folder
            problems.append((at, f"{place}: {dotted(at)}: cannot be followed ({shorten(str(error), 100)})"))
    return problems


def _absolute(path: str, base: Path) -> str:
    """An address, such as s3://bucket/chats, stays as it is; so does the pattern in a path."""
    if "://" in path:
        return path
    expanded = Path(path).expanduser() if re.match("~(/|$)", path) else Path(path)
    found = str((base / expanded).resolve())
    if re.search(r"[\ud800-\udfff]", found):  # bytes that Python could not decode
        encoding = sys.getfilesystemencoding()
        here = "" if encoding == "utf-8" else ": set LC_ALL=C.UTF-8, and unset PYTHONUTF8"
        raise OSError(f"{encoding} has no such name{here}")
    return found

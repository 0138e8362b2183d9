"""Reads YAML in bounded time. One walk builds the values and notes the line of each.

YAML can hold what no config needs: tags that build objects, aliases that hold themselves or grow to gigabytes, control
characters, numbers of a thousand digits. Each of these is one problem with its place, and never a traceback or a wait.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from lorasum.config.key_paths import KeyPath, Places, Problems, dotted

LONGEST = 250_000
"""Longest config, in bytes."""
_MOST_VALUES = 10_000  # values of one file, after aliases are followed
_DEEPEST = 32  # sections in sections
_LONGEST_NUMBER = 64  # characters
_TAG = "tag:yaml.org,2002:"
_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]"
)  # all control characters but tab and line end


class TooMuchError(Exception):
    """A file that would take too long to read, or that has no end. Its text says why."""


class _Loader(yaml.SafeLoader):
    """PyYAML's scanner and parser, which stop early at a file that is too much. Dates and `=` are plain text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (f"{_TAG}timestamp", f"{_TAG}value")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _depth = _values = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        self._depth, self._values = self._depth + 1, self._values + 1
        _check_size(self._depth, self._values)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_Loader.add_implicit_resolver(f"{_TAG}float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))


def read(text: str, place: Callable[[int], str], at: KeyPath = ()) -> tuple[Any, Places, Problems]:
    """The value that `text` holds, the place of every key in it, and what is wrong with it.

    Args:
        place: says where a line is, counted from 1.
        at: the path of the value itself.

    Raises:
        yaml.YAMLError: it is not YAML, or more than one document.
        TooMuchError: it nests too deep, holds too many values, or an alias holds itself.
    """
    if len(text) > LONGEST:
        raise TooMuchError(f"longer than {LONGEST:,} characters")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        walk = _Walk(loader, place)
        return walk.value(node, at, 0) if node is not None else None, walk.places, walk.problems
    finally:
        loader.dispose()


def unsafe(text: str) -> str:
    """What is wrong with the first character that no config needs; empty if there is none."""
    unsafe = _UNSAFE.search(text)
    if unsafe is None:
        return ""
    code = ord(unsafe[0])
    what = "half a character" if code >= 0xD800 else "a control character"
    return f"holds {what}, U+{code:04X}"


class _Walk:
    """Builds values from PyYAML's nodes. Every alias is built separately, so that no two keys share a value."""

    def __init__(self, loader: _Loader, place: Callable[[int], str]) -> None:
        self.places: Places = {}
        self.problems: Problems = []
        self._loader = loader
        self._place = place
        self._values = 0

    def value(self, node: yaml.Node, at: KeyPath, depth: int) -> Any:
        self._values += 1
        _check_size(depth, self._values)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, at)
        if node.tag not in (f"{_TAG}seq", f"{_TAG}map"):
            self._problem(node, at, f"cannot be read with the tag {_tag(node)}, write the values without it")
        if isinstance(node, yaml.MappingNode):
            return self._section(node, at, depth)
        return [self._item(item, (*at, index), depth) for index, item in enumerate(node.value)]

    def _item(self, node: yaml.Node, at: KeyPath, depth: int) -> Any:
        self.places[at] = self._where(node)
        return self.value(node, at, depth + 1)

    def _section(self, node: yaml.MappingNode, at: KeyPath, depth: int) -> dict[str, Any]:
        section: dict[str, Any] = {}
        merged = []
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                merged += list(self._merged(value, at, depth))
            elif isinstance(key, yaml.ScalarNode):
                self._add(section, key, value, at, depth)
            else:
                self._problem(key, at, "has a key that is a list or a section; a key is a word")
        for key, value in merged:
            if key.value not in section:
                self._add(section, key, value, at, depth)
        return section

    def _add(self, section: dict[str, Any], key: yaml.ScalarNode, value: yaml.Node, at: KeyPath, depth: int) -> None:
        name, path = str(key.value), (*at, str(key.value))
        if name in section:
            self._problem(key, path, f"duplicate key, already at {self.places[path]}")
        self.places[path] = self._where(key)
        if wrong := unsafe(name):
            self._problem(key, path, f"the key {wrong}")
            return
        section[name] = self.value(value, path, depth + 1)

    def _merged(self, node: yaml.Node, at: KeyPath, depth: int) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """The keys and values that `<<: *alias` brings."""
        self._values += 1
        _check_size(depth, self._values)
        if isinstance(node, yaml.SequenceNode):
            for item in node.value:
                yield from self._merged(item, at, depth + 1)
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.tag == f"{_TAG}merge":
                    yield from self._merged(value, at, depth + 1)
                elif isinstance(key, yaml.ScalarNode):
                    yield key, value
        else:
            self._problem(node, at, "has a << that is not a section")

    def _scalar(self, node: yaml.ScalarNode, at: KeyPath) -> Any:
        text = str(node.value)
        if wrong := unsafe(text):
            self._problem(node, at, wrong)
            return ""
        plain = self._loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        if node.tag not in (plain, f"{_TAG}str"):
            self._problem(node, at, f"cannot be read with the tag {_tag(node)}, write the plain value")
            return ""
        match node.tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return self._loader.construct_yaml_bool(node)
            case "int" | "float" if len(text) > _LONGEST_NUMBER:
                self._problem(node, at, f"is a number of {len(text):,} characters; {_LONGEST_NUMBER} are read")
                return 0
            case "int" | "float" if ":" not in text:  # YAML 1.1 read 1:30 as 90
                return _number(text)
        return text

    def _problem(self, node: yaml.Node, at: KeyPath, text: str) -> None:
        self.problems.append((at, f"{self._where(node)}: {dotted(at)}{': ' if at else ''}{text}"))

    def _where(self, node: yaml.Node) -> str:
        return self._place(node.start_mark.line + 1)


def _check_size(depth: int, values: int) -> None:
    if depth > _DEEPEST:
        raise TooMuchError(f"nested more than {_DEEPEST} levels deep, or an alias holds itself")
    if values > _MOST_VALUES:
        raise TooMuchError(f"more than {_MOST_VALUES:,} values, aliases followed")


def _number(text: str) -> int | float:
    """A number as written: `010` is ten, as in YAML 1.2."""
    plain = text.replace("_", "")
    if re.fullmatch(r"[-+]?\d+", plain):
        return int(plain)
    if re.fullmatch(r"[-+]?0[xb][\da-fA-F]+", plain):
        return int(plain, 0)
    return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", plain.lower()))


def _tag(node: yaml.Node) -> str:
    name = str(node.tag)
    return f"!!{name.removeprefix(_TAG)}"[:40] if name.startswith(_TAG) else name[:40]

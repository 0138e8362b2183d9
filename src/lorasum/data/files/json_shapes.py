"""Finds the rows in one JSON document, in the shapes that pandas, the hub's viewer and people's scripts write.

    {"data": [{row}, {row}]}                               a list under a name, such as data, rows, train
    {"result": {"rows": [{row}, {row}]}}                   one of these in the only object of another one
    {"dialogue": {"0": …, "1": …}, "summary": {…}}         pandas' to_json(), by column
    {"0": {row}, "1": {row}}                               pandas' orient="index"; objects by their ids
    {"columns": […], "index": […], "data": [[…], […]]}     pandas' orient="split"; also rows, and objects with names
    {"dialogue": […, …], "summary": […, …]}                columns as lists
    {"train": …, "test": …}                                one of these for each split
    {"dialogue": …, "summary": …}                          one row

Pure.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lorasum.config.data import Columns
from lorasum.data.files.splits import Split, of_split, splits_of, without_overlap
from lorasum.data.tally import Rejected

_NAMES = ("data", "rows", "examples", "items", "records", "results", "dataset", "samples")


def _unsaid(text: str) -> None:
    """A callback for remarks that ignores them."""


def rows_of(
    document: Mapping[str, Any], columns: Columns, split: Split, say: Callable[[str], None] = _unsaid
) -> Iterable[Any]:
    """The rows of a document.

    Args:
        split: the split to take from a document that holds several, such as {"train": […], "test": […]}.
        say: is told what was left, if it may be of the split too.

    Raises:
        ValueError: it holds several lists of rows, and nothing tells which one to take; or its columns have not the
            same length.
    """
    dialogues = document.get(columns.dialogue)
    summaries = [document[column] for column in columns.summaries if column in document]
    if summaries and all(value is not None for value in (dialogues, *summaries)):
        if all(isinstance(value, Mapping) for value in (dialogues, *summaries)):
            return _by_column(document)
        return _lists(document, dialogues, summaries) or [document]
    if (below := _below_names(document)) is not None:
        return below
    tables = {key: value for key, value in document.items() if _is_table(value) and key != columns.dialogue}
    if tables:
        return _table(tables, columns, split, say) or [document]
    inner = {key: value for key, value in document.items() if isinstance(value, Mapping)}
    if splits := _splits(inner, columns, split):
        return _of_split({**inner, **splits}, split, say)
    named = [value for key, value in inner.items() if key in _NAMES]
    if len(named) == 1:
        return rows_of(named[0], columns, split, say)
    if len(inner) == 1:
        left: list[str] = []
        found = list(rows_of(next(iter(inner.values())), columns, split, left.append))
        if all(isinstance(row, Mapping) and columns.dialogue in row for row in found):
            for text in left:
                say(text)
            return found
    if document and all(isinstance(value, Mapping) for value in document.values()):
        return _by_column(document) if _are_columns(document) else list(document.values())
    return [document]


def _splits(inner: Mapping[str, Mapping[str, Any]], columns: Columns, split: Split) -> dict[str, list[Any]]:
    """The rows of the objects that are named by splits, by their names; none if those are rows, such as `train_17`."""
    kinds = splits_of(inner)
    if not ("train" in kinds.values() or all(kinds.values())):
        return {}
    splits = {name: list(rows_of(inner[name], columns, split)) for name, kind in kinds.items() if kind}
    return splits if all(rows != [inner[name]] for name, rows in splits.items()) else {}


def _below_names(document: Mapping[str, Any]) -> list[Any] | None:
    """The rows of lists of values below one of the columns' names; None if it holds no such. A list of another length
    stays one.

    Raises:
        ValueError: two columns have the same name.
    """
    values = document.get("data", document.get("rows"))
    given = document.get("columns")
    names = [one.get("name") if isinstance(one, Mapping) else one for one in given] if isinstance(given, list) else []
    if not (names and isinstance(values, list) and all(isinstance(name, str) for name in names)):
        return None
    if doubled := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"it has {len(doubled)} columns {doubled[0]!r}")
    fit = (isinstance(row, list) and len(row) == len(names) for row in values)
    return [dict(zip(names, row, strict=True)) if fits else row for row, fits in zip(values, fit, strict=True)]


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _table(tables: Mapping[str, list[Any]], columns: Columns, split: Split, say: Callable[[str], None]) -> list[Any]:
    """The list of rows to take; empty if the lists are not rows but, for example, one row's messages."""
    if any(splits_of(tables).values()):
        return _of_split(tables, split, say)
    fitting = [key for key in tables if columns.dialogue in tables[key][0]] or [key for key in tables if key in _NAMES]
    if len(fitting) > 1:
        raise ValueError(f"it holds several lists of rows: {_some(fitting)}")
    return [_unwrapped(row, columns) for row in tables[fitting[0]]] if fitting else []


def _of_split(lists: Mapping[str, Any], split: Split, say: Callable[[str], None]) -> list[Any]:
    """The rows of a split, in lists that are named by splits: `train` alone, or `train_1` and `train_2`.

    Raises:
        ValueError: none is of the split, or several are that may hold the same rows.
    """
    kinds = splits_of(lists)
    named = of_split(kinds, split)
    if not named:
        raise ValueError(f"it holds {_some(lists)}, and no {split} rows")
    chosen = without_overlap(named)
    if not chosen:
        raise ValueError(f"it holds {_some(named)}, which may have the same rows")
    if left := [name for name in lists if name not in chosen and kinds[name] in (None, kinds[chosen[0]])]:
        own = "write what is left to a file of its own to read it too"
        say(f"took {_some(chosen)} for data.{split}, and left {_some(left)}; {own}")
    return [row for name in chosen for row in lists[name]]


def _unwrapped(row: Mapping[str, Any], columns: Columns) -> Any:
    """The row itself. The hub's dataset viewer puts it under `row`, beside its number and the names of cells that it
    has cut off."""
    held = row.get("row")
    if "row_idx" not in row or not isinstance(held, Mapping):
        return row
    wanted = {columns.dialogue, *columns.summaries} & {*held} or {*held}
    cut = wanted.intersection(row.get("truncated_cells") or ())
    return Rejected("cut off", f"{_some(sorted(cut))}, by the hub's viewer") if cut else held


def _lists(document: Mapping[str, Any], dialogues: Any, summaries: list[Any]) -> list[Any]:
    """The rows of columns that are lists; empty if it is one row with lists, such as messages and several summaries.

    Raises:
        ValueError: its texts are dialogues, each of several speakers, and their number is not that of summaries.
    """
    columns = [dialogues, *summaries]
    if not all(isinstance(column, list) for column in columns) or any(isinstance(one, Mapping) for one in dialogues):
        return []
    others = [len(column) for column in summaries if len(column) != len(dialogues)]
    if others:
        if are_dialogues(dialogues):
            raise ValueError(f"it holds {len(dialogues)} dialogues and {others[0]} summaries")
        return []
    full = {key: value for key, value in document.items() if isinstance(value, list) and len(value) == len(dialogues)}
    return [dict(zip(full, values, strict=True)) for values in zip(*full.values(), strict=True)]


def are_dialogues(texts: Sequence[Any]) -> bool:
    """Whether most of a list are texts of several turns, and so not the turns of one dialogue."""
    return 2 * sum(isinstance(one, str) and len(_TURN.findall(one)) > 1 for one in texts) > len(texts)


_TURN = re.compile(
    r"^(?:[\[(][^\])\n]{1,40}[\])]\s*|\d[\d:/., -]*(?:[AaPp]\.?[Mm]\.?)?\W*)?(?:[^\n:]{1,40}: |<[^\n>]{1,40}> )", re.M
)
"""Where a turn begins, perhaps with its time."""


def _are_columns(document: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether objects of objects are columns by row number, rather than rows by their ids."""
    first = next(iter(document.values()))
    return bool(first) and all(str(key).isdecimal() for key in first)


def _by_column(document: Mapping[str, Any]) -> list[Any]:
    columns = {key: value for key, value in document.items() if isinstance(value, Mapping)}
    ids = dict.fromkeys(number for column in columns.values() for number in column)
    return [{key: column.get(number) for key, column in columns.items()} for number in ids]


def _some(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)

"""Puts names in the place of the numbers of class labels, where the library datasets wrote both. Pure functions."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from lorasum.data.tally import Row


def features_in(metadata: Mapping[bytes, bytes] | None) -> Any:
    """The features in the metadata of an Arrow schema; None if they hold no class labels."""
    try:
        return labelled(json.loads(metadata[b"huggingface"])["info"]["features"]) if metadata else None
    except (ValueError, KeyError, TypeError):
        return None


def labelled(features: Any) -> Any:
    """The features if there are class labels among them; else None, for there is nothing to do to the rows."""
    return features if "ClassLabel" in str(features) else None


def with_names(row: Row, features: Any, but: Collection[str] = ()) -> Row:
    """A row with the names of its labels: `speaker` is USER rather than 0.

    Args:
        but: numbers that stay, because the config has names for them.
    """
    return _named(row, features, but) if features and isinstance(row, Mapping) else row


def _named(value: Any, feature: Any, but: Collection[str]) -> Any:
    if isinstance(feature, list):  # as older versions write a list
        feature = {"feature": feature[0] if feature else None, "_type": "List"}
    if not isinstance(feature, Mapping):
        return value
    kind, inner, names = feature.get("_type"), feature.get("feature"), feature.get("names")
    if kind == "ClassLabel":
        if isinstance(names, list) and isinstance(value, int) and 0 <= value < len(names) and str(value) not in but:
            return names[value]
        return value
    if isinstance(value, list):
        return [_named(one, inner, but) for one in value]
    if isinstance(value, Mapping) and isinstance(kind, str):  # a list of objects may be stored as an object of lists
        inner = inner if isinstance(inner, Mapping) else {}
        return {key: _named(one, {"feature": inner.get(key), "_type": kind}, but) for key, one in value.items()}
    return (
        {key: _named(one, feature.get(key), but) for key, one in value.items()} if isinstance(value, Mapping) else value
    )

"""Reads the rows of the ledger: what an earlier or a later version has written, or what is damaged."""

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Final

from lorasum.ledger.resources import BatchJob, Dataset, Endpoint, Resource, TrainingJob, Unreadable

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_KINDS: Final[Mapping[str, type[Resource]]] = {kind.kind: kind for kind in (Dataset, TrainingJob, BatchJob, Endpoint)}


def parse(columns: Mapping[str, object], stored: str) -> Resource:
    """The resource of a row.

    Args:
        columns: by name, as COLUMNS has them.
        stored: the details, as JSON. Fields that this version does not know are left out.
    """
    from pydantic import ValidationError

    kind = str(columns["kind"])
    try:
        if kind not in _KINDS:
            raise ValueError(f"it is of an unknown kind, {kind!r}")
        fields = json.loads(stored)
        if not isinstance(fields, dict):
            raise ValueError("its details are not an object")
        for time in ("created_at", "updated_at"):
            datetime.fromisoformat(str(columns[time]))
        if fields.get("expires_at") and datetime.fromisoformat(str(fields["expires_at"])).tzinfo is None:
            raise ValueError("expires_at: it has no time zone")
        return _reader(kind).validate_python({**fields, **columns})
    except ValidationError as error:
        first = error.errors()[0]
        return _unreadable(columns, stored, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    except (ValueError, RecursionError) as error:  # json's too
        return _unreadable(columns, stored, str(error))


@cache
def _reader(kind: str) -> "TypeAdapter[Resource]":
    """What reads resources of a kind. Making it takes longer than reading a hundred of them."""
    from pydantic import TypeAdapter

    return TypeAdapter(_KINDS[kind])


def _unreadable(columns: Mapping[str, object], stored: str, why: str) -> Unreadable:
    place, access = _place(stored)
    return Unreadable(
        run=str(columns["run"]),
        name=str(columns["name"]),
        backend=str(columns["backend"]),
        state="gone" if columns["state"] == "gone" else "unreadable",
        account_and_region=place,
        access=access,
        reason=why,
        created_at=str(columns["created_at"]),
        updated_at=str(columns["updated_at"]),
        usd_per_hour=None,
        stored_kind=str(columns["kind"]),
        stored=stored,
    )


def _place(stored: str) -> tuple[str, dict[str, str]]:
    """`account_and_region` and `access` of details that cannot be read as a whole; empty where they are not there."""
    try:
        fields = json.loads(stored)
    except (TypeError, ValueError, RecursionError):
        return "", {}
    if not isinstance(fields, dict) or not isinstance(place := fields.get("account_and_region"), str):
        return "", {}
    pairs = fields["access"].items() if isinstance(fields.get("access"), dict) else ()
    return place, {key: value for key, value in pairs if isinstance(value, str)}

"""What every section of a config has in common."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(gt=0, lt=2**31)]
Seconds = Annotated[float, Field(gt=0, le=7 * 24 * 3600)]
Fraction = Annotated[float, Field(ge=0, le=1)]

LATER: Final = "added later"
"""Marks a key of the training that came after the first release, such as `rslora: Annotated[bool, LATER] = False`. With
its default it is left out of what names a job, so that earlier jobs keep their names."""


class Section(BaseModel):
    """Base of all sections: no unknown keys, no change after reading, field docstrings become descriptions."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )

    def hashed(self, exclude: frozenset[str] = frozenset()) -> dict[str, object]:
        """The keys and values that name a job: all but those that are marked `LATER` and have their defaults."""
        fields = type(self).model_fields
        values = self.model_dump(exclude=set(exclude))
        return {
            name: value
            for name, value in values.items()
            if LATER not in fields[name].metadata or value != fields[name].default
        }

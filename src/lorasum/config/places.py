"""The names of the backends, which are the values of `backend` in a config."""

from typing import Final, Literal, get_args

Place = Literal["local", "sagemaker"]
PLACES: Final[tuple[Place, ...]] = get_args(Place)

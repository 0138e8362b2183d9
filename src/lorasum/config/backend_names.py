"""The names of the backends, which are the values of `backend` in a config."""

from typing import Final, Literal, get_args

BackendName = Literal["local", "sagemaker"]
BACKEND_NAMES: Final[tuple[BackendName, ...]] = get_args(BackendName)

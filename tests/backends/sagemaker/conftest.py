"""An account that behaves as SageMaker does, for tests of the backend without a command around it."""

from collections.abc import Iterator

import pytest
from stand_in import StandIn


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """An account that holds nothing but a bucket and a role, and an environment that is logged in to it."""
    with StandIn() as stand_in:
        for name, value in stand_in.environ().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LORASUM_POLL_SECONDS", "0.1")
        yield stand_in

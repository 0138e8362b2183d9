"""What SageMaker shows just after a creation or an update may be older than that: it is looked at several times."""

import time
from collections.abc import Callable
from typing import TypeVar

from lorasum.backends.sagemaker.session import Session, poll_seconds

_LOOKS = 8  # before what is shown is believed

Shown = TypeVar("Shown")


def looked_for(session: Session, what: str, look: Callable[[], Shown], is_new: Callable[[Shown], bool]) -> Shown:
    """What `look` shows as soon as that is new; what it shows last, if it never is."""
    for _ in range(_LOOKS):
        shown = look()
        if is_new(shown):
            break
        session.warn_once(
            f"SageMaker does not show {what} yet as it was asked for, and may bill it: it is looked for, for up to "
            f"{_LOOKS * poll_seconds():.0f} s. If you end that, run `lorasum teardown` afterwards"
        )
        time.sleep(poll_seconds())
    return shown

"""Whether this machine is ready for a process of lorasum's: packages, /proc, a loopback interface."""

import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from lorasum.backends.records import Check
from lorasum.errors import BackendError

INSTALL = "pip install 'lorasum[local]'"
_PROC, _LOOPBACK = Path("/proc/self/stat"), "127.0.0.1"


def check_packages(what: str, modules: Sequence[str], fix: str = INSTALL) -> Check:
    """What `require_packages` finds, as a check."""
    try:
        require_packages(what, modules, fix)
    except BackendError as error:
        return Check(f"packages for {what}", False, error.message, error.hint)
    return Check(f"packages for {what}", True, "installed")


def require_packages(doing: str, modules: Sequence[str], fix: str = INSTALL) -> None:
    """Check that modules can be imported, without importing them.

    Args:
        fix: the command that installs them.

    Raises:
        BackendError: some cannot be imported. `doing`, such as "training", begins the message.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise BackendError(f"{doing} on this machine needs {', '.join(missing)}", fix)


def require_proc() -> None:
    """Check that this machine's processes can be seen: nobody could find what was started, and end it.

    Raises:
        BackendError: they cannot.
    """
    if sys.platform == "linux" and not _PROC.exists():
        raise BackendError(
            "this machine's processes cannot be seen: /proc is not mounted", "mount it: `mount -t proc proc /proc`"
        )


def require_loopback() -> None:
    """Check that processes of this machine can reach each other. Nothing is sent.

    Raises:
        BackendError: they cannot.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_LOOPBACK, 9))
        except OSError as error:
            raise BackendError(
                f"this machine cannot reach itself at {_LOOPBACK}: {error.strerror}",
                "bring the loopback interface up: `ip link set lo up`",
            ) from error

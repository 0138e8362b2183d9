"""The Hugging Face hub: finds commits, pushes models, and turns the hub's errors into errors for the user."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Literal

from lorasum.errors import DataError, HubOutageError, LorasumError, ModelError
from lorasum.system.connection import connection_hint
from lorasum.system.files import first_line
from lorasum.system.threads import without_waiting

Kind = Literal["model", "dataset"]
_CONNECTING, _ANSWERING = 3.0, 10.0  # seconds
_TRY_LATER = "try it again later; https://status.huggingface.co says whether the hub has a fault"


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a full commit hash. What it names never changes."""
    return re.fullmatch(r"[0-9a-f]{40}", revision or "") is not None


def hub_commit(repo: str, revision: str | None, kind: Kind) -> str:
    """The current commit of `revision` (default: the main branch) in a hub repository.

    A full commit hash is returned as it is. So a pinned repository needs no hub once it is downloaded.

    Raises:
        ModelError, DataError: there is no such repository or revision, access is denied, or the hub does not answer.
    """
    if revision and is_commit(revision):
        return revision
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        reach_hub()
        return str(HfApi().repo_info(repo, revision=revision, repo_type=kind, timeout=_ANSWERING).sha)
    except (HfHubHTTPError, HFValidationError, OSError, _no_connection()) as error:
        raise hub_error(error, repo, kind) from error


@contextmanager
def asking_hub() -> Iterator[None]:
    """Within the block, Hugging Face's libraries use what is downloaded and nothing else if the hub cannot be reached.

    Left alone they try again for half a minute for each file, and print two lines for each try.
    """
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    try:
        reach_hub()
    except ConnectionError:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline


def reach_hub() -> None:
    """Ask the hub for any answer at all. It is asked once: a network that swallows packets makes every look wait.

    Raises:
        ConnectionError: it cannot be reached, or HF_HUB_OFFLINE is set.
    """
    if fault := _hub_fault():
        raise ConnectionError(first_line(fault)) from fault


def look_at_hub_again() -> None:
    """Forget whether the hub answered: a new command in the same process may find another network."""
    _hub_fault.cache_clear()


@lru_cache(1)
def _hub_fault() -> Exception | None:
    """Why the hub cannot be reached; None if it can."""
    import httpx
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=httpx.Timeout(_ANSWERING, connect=_CONNECTING))
    except Exception as error:  # of the client too, which reads the environment's proxies and certificates
        return error
    return None


def hub_file(model: str, name: str, revision: str | None) -> Path | None:
    """The path of a small file of a hub model, which is downloaded if need be; None if the hub's model lacks it.

    Raises:
        ModelError: the hub does not have the model, or cannot be reached.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import RemoteEntryNotFoundError

    known = try_to_load_from_cache(model, name, revision=revision)
    if known is not None and is_commit(revision):
        return Path(known) if isinstance(known, str) else None  # its mark says that the commit lacks the file
    try:
        with asking_hub():
            return Path(hf_hub_download(model, name, revision=revision))
    except RemoteEntryNotFoundError:
        return None
    except Exception as error:  # whatever its HTTP client raises
        raise hub_error(error, model, "model") from error


def hub_error(error: BaseException, repo: str, kind: Kind) -> LorasumError:
    """Turn an error of a Hugging Face library about `repo` into a ModelError or DataError with a hint."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in _causes(error))

    error_type, field, revision, local = {
        "model": (ModelError, "model.id", "model.revision", "a local folder is written ./name"),
        "dataset": (DataError, "data.dataset", "data.revision", "local files go to data.train and data.test"),
    }[kind]
    what = f"hub {kind} {repo!r}"
    if caused_by(GatedRepoError):
        return error_type(f"{what} is gated", "accept its terms on its page, then set HF_TOKEN")
    if caused_by(RevisionNotFoundError):
        return error_type(f"{what} has no such revision", f"check {revision}")
    if caused_by(RepositoryNotFoundError):
        return error_type(
            f"{what} does not exist, or is private", f"check {field}; a private one needs HF_TOKEN; {local}"
        )
    if status := _outage(error):
        return HubOutageError(f"{what} cannot be downloaded: the hub answers {status}", _TRY_LATER)
    if caused_by(ConnectionError, LocalEntryNotFoundError, _no_connection()):
        fault = _hub_fault() or error
        network = f"check the network; offline, what is downloaded is found if {revision} is its full commit; {local}"
        return (error_type if isinstance(fault, OfflineModeIsEnabled) else HubOutageError)(
            f"{what} cannot be downloaded: the hub cannot be reached: {first_line(fault)}",
            connection_hint(fault, network),
        )
    return error_type(f"{what}: {first_line(error)}", f"check {field} and the fields beside it")


def _outage(error: BaseException) -> str:
    """The hub's answer, such as `503 Service Unavailable`, where it is one that passes; else empty."""
    answers = [getattr(cause, "response", None) for cause in _causes(error)]
    passing = (one for one in answers if one is not None and (one.status_code == 429 or one.status_code >= 500))
    return next((f"{one.status_code} {one.reason_phrase}".strip() for one in passing), "")


def _no_connection() -> type[Exception]:
    from httpx import TransportError

    return TransportError


def _causes(error: BaseException) -> list[BaseException]:
    """`error` and its causes, newest first. The libraries wrap the hub's errors in errors of their own."""
    causes: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in causes:
        causes.append(current)
        current = current.__cause__ or current.__context__
    return causes


def push_files(repo: str, files: Mapping[str, Path | bytes], private: bool, message: str) -> str:
    """Put files into a model repository as one commit, and make the repository if there is none. Returns its address.

    Args:
        files: by their path in the repository.
        private: who may see it. A repository that is there has to be as private as asked, or nothing is uploaded.

    Raises:
        LorasumError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    if not sys.stderr.isatty():  # on a terminal its bars show the upload
        disable_progress_bars()
    hub = HfApi()
    try:
        reach_hub()
        address = str(hub.create_repo(repo, private=private, exist_ok=True))
        if private and not hub.repo_info(repo).private:
            raise LorasumError(
                f"the repository {repo} is public, and the model would be seen by everybody",
                "say --public if that is meant, or name another repository",
            )
        added = [CommitOperationAdd(name, str(it) if isinstance(it, Path) else it) for name, it in files.items()]
        without_waiting(lambda: hub.preupload_lfs_files(repo, added))  # of many GB, and nobody sees it
        hub.create_commit(repo, added, commit_message=message)
    except HFValidationError as error:
        raise LorasumError(f"{repo!r} is not a repository name: {first_line(error)}", "write owner/name") from error
    except (HfHubHTTPError, OSError, _no_connection()) as error:
        raise _push_error(error, repo) from error
    except (RuntimeError, ValueError) as error:  # of an upload; the cause may be one of the others
        raise _push_error(error.__cause__ or error, repo) from error
    return address


def _push_error(error: BaseException, repo: str) -> LorasumError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return LorasumError(
            "the hub asks who you are", "set HF_TOKEN to a token that may write, or run `hf auth login`"
        )
    if status in (403, 404):
        return LorasumError(f"your token may not write to {repo}", "take a token with write access to its owner")
    if answer := _outage(error):
        return HubOutageError(f"the hub answers {answer}", _TRY_LATER)
    if isinstance(error, OSError | _no_connection()) and status is None:
        hint = connection_hint(_hub_fault() or error, "check the network and HF_ENDPOINT")
        return HubOutageError(f"the hub cannot be reached: {first_line(error)}", hint)
    return LorasumError(f"the hub refused {repo}: {first_line(error)}", "run it again")

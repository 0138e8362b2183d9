"""The Hugging Face hub: finds commits, pushes models, and turns the hub's errors into errors for the user."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from lorasum.errors import DataError, LorasumError, ModelError
from lorasum.files import first_line

Kind = Literal["model", "dataset"]


def hub_commit(repo: str, revision: str | None, kind: Kind) -> str:
    """The current commit of `revision` (default: the main branch) in a hub repository.

    A full commit hash is returned as it is. So a pinned repository needs no hub once it is downloaded.

    Raises:
        ModelError, DataError: there is no such repository or revision, access is denied, or the hub does not answer.
    """
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return str(HfApi().repo_info(repo, revision=revision, repo_type=kind, timeout=10).sha)
    except (HfHubHTTPError, HFValidationError, OSError, _no_connection()) as error:
        raise hub_error(error, repo, kind) from error


def hub_error(error: BaseException, repo: str, kind: Kind) -> LorasumError:
    """Turn an error of a Hugging Face library about `repo` into a ModelError or DataError with a hint."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
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
    if caused_by(ConnectionError, LocalEntryNotFoundError, _no_connection()):
        return error_type(
            f"{what} cannot be downloaded: the hub cannot be reached",
            f"check the network; to work offline with what is downloaded, set {revision} to its commit; {local}",
        )
    return error_type(f"{what}: {first_line(error)}", f"check {field} and the fields beside it")


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
        address = str(hub.create_repo(repo, private=private, exist_ok=True))
        if private and not hub.repo_info(repo).private:
            raise LorasumError(
                f"the repository {repo} is public, and the model would be seen by everybody",
                "say --public if that is meant, or name another repository",
            )
        added = [CommitOperationAdd(name, str(it) if isinstance(it, Path) else it) for name, it in files.items()]
        hub.create_commit(repo, added, commit_message=message)
    except HFValidationError as error:
        raise LorasumError(f"{repo!r} is no name of a repository: {first_line(error)}", "write owner/name") from error
    except (HfHubHTTPError, OSError, _no_connection()) as error:
        raise _push_error(error, repo) from error
    return address


def _push_error(error: Exception, repo: str) -> LorasumError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return LorasumError(
            "the hub asks who you are", "set HF_TOKEN to a token that may write, or run `hf auth login`"
        )
    if status in (403, 404):
        return LorasumError(f"your token may not write to {repo}", "take a token with write access to its owner")
    if status is None:
        return LorasumError(f"the hub cannot be reached: {first_line(error)}", "check the network and HF_ENDPOINT")
    return LorasumError(f"the hub refused {repo}: {first_line(error)}", "run it again")

"""A run's files: deletes them, records that, and tells of those that stay."""

import shutil
from dataclasses import replace

from lorasum.backends.base import is_here
from lorasum.errors import BackendError, LorasumError
from lorasum.ledger.resources import Dataset, Endpoint, TrainingJob
from lorasum.lifecycle.costs import known_price
from lorasum.lock import HeldRun
from lorasum.system import paths


def delete(held: HeldRun, data: bool, artifacts: bool) -> list[str]:
    """Delete the datasets of a run of which nothing runs, or what its jobs left, or both. Returns folders and URIs.

    Raises:
        LorasumError: another run's endpoint serves its adapter, or a file cannot be deleted.
    """
    deleted: list[str] = []
    if artifacts:
        _refuse_to_delete_what_is_served(held)
    folder = paths.run_dir(held.name)
    try:
        if data and (folder / "data").is_dir():
            for part in ("data", "rejected", "reports"):
                shutil.rmtree(folder / part, ignore_errors=part != "data")
            deleted.append(str(folder / "data"))
        if artifacts:
            for part in ("evaluations", "predictions"):
                shutil.rmtree(folder / part, ignore_errors=True)
        if data or artifacts:
            deleted += held.backend.delete_files(held.name, data, artifacts)
    except OSError as error:
        raise LorasumError(
            f"cannot delete files of run {held.name!r}: {error}", "check the folder's permissions, then run it again"
        ) from error
    _record_deletion(held, data, artifacts)
    return deleted


def tell_of_what_stays(held: HeldRun, data: bool, artifacts: bool) -> None:
    """Name the files that are billed although nothing runs. On the user's own machine nothing is."""
    if (data and artifacts) or known_price(held.backend, "endpoint") == 0:
        return
    try:
        stays = held.backend.stored_files(held.name, not data, not artifacts)
    except BackendError as error:
        held.reporter.warn(f"{error.message}: it is unknown which files of the run stay, and are billed by the month")
        return
    if stays:
        delete = "`lorasum teardown --data --artifacts` deletes it"
        held.reporter.step(f"what stays is billed by the month, and {delete}: {', '.join(stays)}")


def _refuse_to_delete_what_is_served(held: HeldRun) -> None:
    for endpoint in held.ledger.rows(Endpoint):
        serves = held.name in [one.run for one in endpoint.adapters]
        if serves and endpoint.is_open and endpoint.run != held.name:
            raise LorasumError(
                f"no files of run {held.name!r} were deleted: endpoint {endpoint.name} of run {endpoint.run!r} serves "
                "its adapter",
                f"tear down run {endpoint.run!r} first",
            )


def _record_deletion(held: HeldRun, data: bool, artifacts: bool) -> None:
    for row in held.ledger.resources(held.name):
        is_data = data and isinstance(row, Dataset)
        is_artifact = artifacts and isinstance(row, TrainingJob) and is_here(row, held.backend)
        if (is_data or is_artifact) and row.state != "gone":
            held.ledger.save(replace(row, state="gone"))

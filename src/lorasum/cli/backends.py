"""Which backends there are. Only this module knows them all."""

from typing import TYPE_CHECKING

from lorasum.errors import LorasumError

if TYPE_CHECKING:
    from lorasum.backends.base import Backend
    from lorasum.config.schema import Config
    from lorasum.ledger.ledger import Ledger
    from lorasum.reporting import Reporter


def backend(config: "Config", report: "Reporter") -> "Backend":
    """The backend that a config names."""
    if config.backend == "sagemaker":
        from lorasum.backends.sagemaker.backend import SageMakerBackend

        return SageMakerBackend(config.sagemaker, report)
    return local()


def local() -> "Backend":
    """The backend of this machine, which needs no config."""
    from lorasum.backends.local.backend import LocalBackend

    return LocalBackend()


def recorded(ledger: "Ledger", report: "Reporter") -> list["Backend"]:
    """The backends of verbs without a config: this machine, and where else something is on record as running.

    Those that the credentials at hand do not reach are left out, with a warning.
    """
    from lorasum.ledger.resources import is_of_unknown_place

    try:
        rows = ledger.resources()
    except LorasumError:  # whoever uses the ledger next says so
        rows = []
    running = [
        row
        for row in rows
        if row.backend == "sagemaker" and row.is_open and row.kind != "dataset" and not is_of_unknown_place(row)
    ]
    places = dict.fromkeys((tuple(row.access.items()), row.account_and_region) for row in running)
    found = [_reached(dict(access), place, report) for access, place in places]
    return [local(), *(one for one in found if one)]


def _reached(access: dict[str, str], place: str, report: "Reporter") -> "Backend | None":
    from lorasum.backends.sagemaker.backend import SageMakerBackend
    from lorasum.config.sagemaker import SageMakerConfig
    from lorasum.system.files import first_line

    try:
        found = SageMakerBackend(SageMakerConfig.model_validate(access), report)
        there = found.account_and_region
    except (LorasumError, ValueError) as error:  # no credentials or network, or keys that only a newer lorasum knows
        report.warn(f"{first_line(error)}: {place or 'sagemaker'} is not asked about what is on record there")
        return None
    if place not in ("", there):
        report.warn(f"these credentials are of {there}: {place} is not asked about what is on record there")
        return None
    return found

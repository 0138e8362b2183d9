"""Silence the libraries' own progress bars and advice, so that only the reporter writes to the screen."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Make transformers print only errors, and no progress bars, while the block runs."""
    advice = os.environ.get("TRANSFORMERS_NO_ADVISORY_WARNINGS")
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # else its import warns clients without torch
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if advice is None:
            del os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"]


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """Make datasets print only errors and no progress bars, and report no download, while the block runs."""
    import datasets

    verbosity, no_bars = datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()
    counts = datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    try:
        yield
    finally:
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = counts
        datasets.logging.set_verbosity(verbosity)
        if not no_bars:
            datasets.enable_progress_bars()

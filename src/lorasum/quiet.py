"""Keep the libraries' own bars and advice off the screen: the reporter has it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """transformers says errors only, and draws nothing."""
    advice = os.environ.get("TRANSFORMERS_NO_ADVISORY_WARNINGS")
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # its import tells light clients that they have no torch
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
    """datasets says errors only, and draws nothing."""
    import datasets

    verbosity, no_bars = datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not no_bars:
            datasets.enable_progress_bars()

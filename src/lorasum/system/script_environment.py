"""The environment in which container scripts and the local server run."""

from collections.abc import Mapping

_NOT_PASSED = ("PYTHONOPTIMIZE", "PYTHONSAFEPATH", "PYTHONWARNINGS")


def script_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """These variables without those that change how Python runs a script.

    With PYTHONOPTIMIZE=2 transformers misses its docstrings and does not load, with PYTHONSAFEPATH a script does not
    find the modules beside it, and with PYTHONWARNINGS=error a library's note on its next version ends a training.
    """
    return {name: value for name, value in environ.items() if name not in _NOT_PASSED}

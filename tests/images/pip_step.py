"""Runs start.py's pip step in an environment with an image's versions, and says what it changed.

    PYTHONPATH=container_scripts IMAGE/bin/python tests/images/pip_step.py

Fails where a package of the image has changed that is neither a pin of ours nor named in constraints-train.txt.
"""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import start

SCRIPTS = Path(start.__file__).parent
PINS, CONSTRAINTS = SCRIPTS / "requirements-train.txt", SCRIPTS / "constraints-train.txt"


def installed() -> dict[str, str]:
    """Name → version of every package."""
    return {start._normal(each.name): each.version for each in importlib.metadata.distributions()}


def main() -> None:
    """Install, compare, and import what the training script imports first."""
    before = installed()
    start.install_missing(PINS, CONSTRAINTS, Path("no wheels here"), os.environ)
    after = installed()
    ours = {start._normal(name) for name in [*start.read_pins(PINS), *start.read_pins(CONSTRAINTS)]}
    for name in sorted(after):
        if before.get(name) != after[name]:
            print(f"{name}: {before.get(name, 'none')} -> {after[name]}")
    changed = {name for name in before if after.get(name) != before[name]} - ours
    if changed:
        sys.exit(f"these packages of the image were changed: {', '.join(sorted(changed))}; pin them")
    subprocess.run([sys.executable, "-c", "import pyarrow, datasets, transformers, peft"], check=True)


if __name__ == "__main__":
    main()

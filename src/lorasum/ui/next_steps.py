"""The commands that go on with a run, with its config and `--set` as they were given: they can be pasted."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasum.config.loader import is_piped
from lorasum.config.new_file import as_argument
from lorasum.config.secrets import redact
from lorasum.results.serving import DeployResult, RunResult
from lorasum.results.training import PlanResult, PrepareResult, SweepResult, TrainResult
from lorasum.shared.events import MERGE_LEFT_OUT

_BARE = re.compile(r"`lorasum (?!status`)(\w+)`(?: with this config|(?! with ))")


@dataclass(frozen=True, slots=True)
class Given:
    """The config and the `--set` of a command line. One with a secret is left out of what is printed."""

    config: Path
    overrides: Sequence[str] = ()

    def command(self, verb: str, *more: str) -> str:
        """`lorasum train run.yaml --set lora.r=8`."""
        return " ".join(["lorasum", verb, as_argument(self.config), *self._sets, *more])

    def completed(self, text: str) -> str:
        """A message with the whole command where it says "`lorasum teardown`", which needs a config."""
        if is_piped(self.config):
            return text
        return _BARE.sub(lambda found: f"`{self.command(found[1])}`", text)

    def next_of(self, result: object) -> list[str]:
        """What can follow a result; nothing where the config came through a pipe."""
        if isinstance(result, SweepResult):
            words = ["FILE" if is_piped(self.config) else as_argument(self.config), *self._sets]
            return [one.replace("FILE", " ".join(words), 1) for one in result.next]
        if is_piped(self.config):
            return []
        match result:
            case PrepareResult():
                return [self.command("plan"), self.command("train")]
            case PlanResult(checks=checks, prepared=prepared):
                stopped = any(check.stops_training and not check.ok for check in checks)
                return [] if stopped else [self.command("train" if prepared else "prepare")]
            case TrainResult(state="done", not_merged=why, gguf=gguf):
                export = self.command("export", "--gguf", "model.gguf")
                alone = ("--set", "deploy.serve=adapter") if why not in ("", MERGE_LEFT_OUT) else ()
                return [self.command("deploy", *alone), *([f"{export} && llama-server -m model.gguf"] if gguf else [])]
            case DeployResult() | RunResult(teardown=None):
                return [self.command("predict", "--sample"), self.command("teardown")]
        return []

    @property
    def _sets(self) -> list[str]:
        return [word for one in self.overrides if redact(one) == one for word in ("--set", shlex.quote(one))]

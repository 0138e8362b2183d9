"""Shows the results of the verbs that give the trained model to others: push, export."""

import shlex

from rich.console import Group, RenderableType
from rich.text import Text

from lorasum.results.sharing import ExportResult, PushResult
from lorasum.ui.body import body
from lorasum.ui.pieces import Facts, from_here, headline


@body.register
def _(result: PushResult) -> RenderableType:
    who = "private: you alone see it" if result.private else "public: everybody sees it"
    rows = {"job": result.job, "address": result.location, "holds": result.kind.replace("_", " ")}
    return Group(headline("pushed", result.run, who), Facts(rows))


@body.register
def _(result: ExportResult) -> RenderableType:
    size = f"{result.bytes / 1e6:,.1f} MB, {result.tensors:,} tensors of architecture {result.architecture}"
    file = from_here(result.file)
    command = Text(f"llama-server -m {shlex.quote(file)}", no_wrap=True)
    rows: dict[str, str | Text] = {"job": result.job, "file": file, "run it": command}
    return Group(headline("exported", result.run, size), Facts(rows))

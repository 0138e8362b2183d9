"""The verbs that give the trained model to others: push, export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorasum.cli.verb import verb

if TYPE_CHECKING:
    from lorasum.context import RunContext

app = typer.Typer()
Job = Annotated[
    str | None, typer.Option("--job", metavar="NAME", help="The completed job; default: this config's newest.")
]


@verb(app, "lorasum push configs/quickstart.yaml owner/name\n\nlorasum push run.yaml owner/name --adapter --public")
def push(
    run: "RunContext",
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="The repository. It is created if it does not exist.")
    ],
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Only the adapter; users then need the base model too.")
    ] = False,
    public: Annotated[bool, typer.Option("--public", help="Make the repository public. Default: private.")] = False,
    job: Job = None,
) -> object:
    """Put the trained model into a repository of the Hugging Face hub, private by default."""
    from lorasum.commands.push import push

    return push(run, repository, adapter, public, job)


@verb(app, "lorasum export configs/quickstart.yaml --gguf model.gguf")
def export(
    run: "RunContext",
    gguf: Annotated[Path, typer.Option("--gguf", metavar="FILE", help="The file to write.", show_default=False)],
    job: Job = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> object:
    """Write the trained model as a GGUF file, for llama.cpp and tools built on it."""
    from lorasum.commands.export import export

    return export(run, gguf, job, force)

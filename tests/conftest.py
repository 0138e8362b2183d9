"""Fixtures shared by several test files: a tiny model with its tokenizer, a few chats, and an empty AWS account."""

import gc
import json
import os
import signal
import threading
import urllib.request
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from forks import Zygote

# `make test` tries the same examples every time; `make soak` draws others. A busy machine meets no deadline.
settings.register_profile("test", derandomize=True, database=None, deadline=None)
settings.register_profile("soak", database=None, deadline=None)
settings.load_profile("soak" if "LORASUM_FUZZ" in os.environ else "test")

# As a shell sets them for what it runs in the background, and nohup. The tests' processes would inherit it.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)
# torch computes on one thread, here and in the tests' processes: the models are tiny, and pytest has a worker a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each of some hundred processes would compile all our modules

_TRAIN = [
    ("Mia", "Tom", "are we still on for climbing tonight?", "yes! 7 at the gym, bring chalk", "climb at 7"),
    ("Ana", "Raj", "the printer is eating paper again 😡", "try tray 2, I'll call the repair guy", "fix the printer"),
    ("Leo", "Kim", "dinner at mum's on sunday?", "ok but I can only come after 3", "eat at their mum's on Sunday"),
    ("Zoe", "Ben", "my parcel never arrived…", "send me the tracking number pls", "find a lost parcel"),
    ("Ida", "Max", "can u feed the cat while I'm away", "sure, same food as last time?", "feed the cat"),
    ("Sam", "Eva", "the demo moved to thursday", "ugh. slides are not ready {yet}", "get slides ready for Thursday"),
    ("Noa", "Jon", "need a blue dress for the wedding", "look here http://example.com/sale", "buy a dress"),
    ("Pia", "Gus", "train is late, 40 min :(", "no worries, I'll wait in the café", "meet at a café"),
    ("Uma", "Ali", "did you pay the electricity bill?", "forgot!! doing it now", "pay the bill"),
    ("Kai", "Liv", "new phone who dis", "lol it's Liv, from the course", "stay in touch"),
    ("Eli", "Fay", "the dog ate my homework, literally", "take a photo of it haha", "show the teacher a photo"),
    ("Amy", "Dan", "movie or bowling?", "bowling, loser buys pizza", "go bowling"),
]
_TEST = [
    ("Ola", "Per", "bus or bike tomorrow?", "bike, the weather's great", "take their bikes"),
    ("Ivy", "Tim", "my laptop won't start", "bring it over, I'll have a look", "look at the laptop"),
    ("Jan", "Sue", "grandma turns 80 in may!", "let's plan a surprise party", "plan a party"),
    ("Lou", "Rob", "can I return these shoes?", "within 30 days, with the receipt", "return the shoes"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long, so that the workers of `make test` end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_configure(config: pytest.Config) -> None:
    """Let all workers share the zygotes, which end with this process if it is the first one, and no worker."""
    import forks

    if not hasattr(config, "workerinput"):
        config.add_cleanup(forks.share())


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector off what is imported: a million objects, looked through again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """Keep it off what a file's tests import, too: our code asks for collections of all objects."""
    yield
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Keep pytest from looking through all objects five more times, which takes each worker two seconds."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def nothing_left_here() -> Iterator[None]:
    """No test leaves a file in the folder where pytest runs: it would be committed some day."""
    before = {*Path().iterdir()}
    yield
    assert [path for path in {*Path().iterdir()} - before if not path.name.startswith(".")] == []


@pytest.fixture(scope="session")
def tiny_chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.jsonl (12 rows) and test.jsonl (4 rows) of short dialogues and summaries."""
    folder = tmp_path_factory.mktemp("chats")
    for name, chats in (("train", _TRAIN), ("test", _TEST)):
        rows = [{"dialogue": f"{a}: {x}\n{b}: {y}", "summary": f"{a} and {b} will {s}."} for a, b, x, y, s in chats]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a byte-level BPE tokenizer of at most 512 tokens: any text goes through it and back unchanged."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<unk>", "<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"{a}: {x}\n{b}: {y}\n---\nSummary:\n{a} and {b} will {s}." for a, b, x, y, s in _TRAIN]
    bpe.train_from_iterator(["Summarize the chat dialogue:\n", *texts], trainer)
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(
        tokenizer_object=bpe, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_dir: Path) -> Path:
    """A folder with a random BLOOM (ALiBi, tied embeddings, fused query_key_value; 2 layers) and its tokenizer.

    With tied embeddings it repeats its last token. A prompt ends in a newline, of which an answer would be empty, so a
    newline looks like an `e` to it.
    """
    import torch
    from transformers import AutoTokenizer, BloomConfig, BloomForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    config = BloomConfig(
        vocab_size=512,
        hidden_size=32,
        n_layer=2,
        n_head=4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    folder = tmp_path_factory.mktemp("tiny-bloom")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BloomForCausalLM(config)
    embeddings = model.get_input_embeddings().weight.data
    embeddings[tokenizer.encode("\n")[0]] = embeddings[tokenizer.encode("e")[0]] / 2
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """Address of a running moto server."""
    from parsed_once import moto, parse_once
    from stand_in import quiet
    from werkzeug.serving import make_server

    parse_once()
    server = make_server("127.0.0.1", 0, moto(), threaded=True, request_handler=quiet())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def clients() -> "Zygote":
    """Starts `lorasum` with any arguments and environment, in forks of a process that has imported everything."""
    import forks

    return forks.clients()


@pytest.fixture(scope="session")
def trainings() -> "Zygote":
    """Runs train.py with any flags and environment, in forks of a process that has imported torch and the rest."""
    import forks

    return forks.trainings()


@pytest.fixture
def aws(moto_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The environment of somebody who is logged in to an account that holds nothing. Returns AWS's address."""
    urllib.request.urlopen(urllib.request.Request(f"{moto_url}/moto-api/reset", method="POST")).close()
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    environ = {
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials"),
        "LORASUM_HOME": str(tmp_path / "home"),
        "LORASUM_POLL_SECONDS": "0.05",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return moto_url

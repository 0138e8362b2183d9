"""The command line as a shell sees it: what goes to stdout, what to stderr, and the exit code."""

import json
import os
import pty
import resource
import select
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from forks import Ended, Popen, Zygote

from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Dataset

LORASUM = [sys.executable, "-m", "lorasum"]
CONFIG = """\
name: chats
model: {id: org/model}
data: {dataset: org/data}
"""
VERBS = [
    "init",
    "prepare",
    "plan",
    "train",
    "sweep",
    "deploy",
    "predict",
    "evaluate",
    "teardown",
    "run",
    "push",
    "export",
    "status",
    "logs",
    "runs",
    "clean",
    "env",
    "report",
    "config",
]

# `lorasum` with one more command, `boom`, whose body is what follows.
BOOM = """\
import os, signal, sys
from lorasum.cli import entry, options, verb
@entry.app.command()
def boom(verbose: options.Verbose = False): """


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment with an empty home and no colours asked for."""
    unset = ("FORCE_COLOR", "GITHUB_ACTIONS", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return {
        **kept,
        "LORASUM_HOME": str(tmp_path / "home"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "x.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return str(path)


@pytest.fixture
def call(env: dict[str, str], clients: Zygote) -> Callable[..., Ended]:
    """Run `lorasum` with the arguments and, beside those of `env`, the variables that are named."""

    def call(*arguments: str, **variables: str) -> Ended:
        return clients.start([*arguments], {**env, **variables}, {}).wait()

    return call


def process(env: dict[str, str], *arguments: str, stdin: str = "") -> CompletedProcess[str]:
    """Run `lorasum` as a process of its own, for tests in which a fork would not do."""
    return subprocess.run([*LORASUM, *arguments], env=env, input=stdin, capture_output=True, text=True, check=False)


def shell(env: dict[str, str], script: str) -> CompletedProcess[str]:
    return subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=False)


def boom(env: dict[str, str], body: str, *arguments: str) -> CompletedProcess[str]:
    script = f"{BOOM}{body}\nentry.main()"
    return subprocess.run(
        [sys.executable, "-c", script, "boom", *arguments], env=env, capture_output=True, text=True, check=False
    )


def assert_error(result: CompletedProcess[str] | Ended, message: str, code: int = 2) -> None:
    """It failed with `code`, one line that holds `message`, and one hint; nothing went to stdout."""
    assert (result.code if isinstance(result, Ended) else result.returncode) == code
    assert result.stdout == ""
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert hint.startswith("hint: ")


def test_help_takes_little_longer_than_a_bare_typer_app(env: dict[str, str], tmp_path: Path) -> None:
    bare = tmp_path / "bare.py"
    bare.write_text(
        "import typer\napp = typer.Typer()\nfor name in 'abcdefgh':\n    app.command(name)(lambda: None)\napp()\n"
    )

    def seconds(command: list[str]) -> float:
        """Processor seconds, which do not count what other processes of a busy machine take; the least of five."""
        taken = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([*command, "--help"], env=env, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(taken)

    assert seconds(LORASUM) < 2 * seconds([sys.executable, str(bare)])


def test_the_command_line_imports_nothing_heavy(env: dict[str, str]) -> None:
    heavy = {"torch", "transformers", "datasets", "pydantic", "yaml", "lorasum.results"}
    script = f"import sys, lorasum.cli; print(*{heavy} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True).stdout == "\n"


def test_help_lists_the_verbs_in_the_order_of_use(call: Callable[..., Ended]) -> None:
    shown = call("--help").stdout
    places = [shown.index(f"│ {verb} ") for verb in VERBS]
    assert places == sorted(places)
    assert call().stdout == shown, "no arguments: the help"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(call: Callable[..., Ended], verb: str) -> None:
    shown = call(verb, "--help", COLUMNS="120")
    assert shown.code == 0
    assert "schema" in shown.stdout if verb == "config" else f"lorasum {verb}" in shown.stdout.split("╰")[-1]


def test_help_shows_the_config_where_it_is_typed(call: Callable[..., Ended]) -> None:
    assert "Usage: lorasum train CONFIG [OPTIONS]" in call("train", "--help", COLUMNS="120").stdout


def test_a_shell_completes_verbs_and_options(env: dict[str, str]) -> None:
    def completed(words: str, place: int) -> list[str]:
        asked = {"_LORASUM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(place)}
        return process({**env, **asked}).stdout.split()

    assert completed("lorasum tr", 1) == ["train"]
    assert "--dry-run" in completed("lorasum train --dr", 2)
    assert "--install-completion" in process(env, "--help").stdout


def test_env_tells_versions_and_keeps_secrets(call: Callable[..., Ended]) -> None:
    secret = {"HF_TOKEN": "hf_" + "a" * 30, "AWS_SECRET_ACCESS_KEY": "abc/def"}
    shown = call("env", "--json", **secret).stdout
    told = json.loads(shown)
    assert {"pydantic", "phonenumbers", "boto3"} <= told["packages"].keys(), "those of the extras too"
    assert told["variables"]["HF_TOKEN"] == "<redacted>"
    assert "TRANSFORMERS_NO_ADVISORY_WARNINGS" not in told["variables"], "the user has not set it"
    assert not [one for one in secret.values() if one in shown]
    assert told["free_bytes"] > 0


def test_clean_asks_and_a_dry_run_deletes_nothing(call: Callable[..., Ended], tmp_path: Path) -> None:
    folder = tmp_path / "home" / "runs" / "old"
    folder.mkdir(parents=True)
    assert "would delete run old" in call("clean", "old", "--dry-run").stdout
    refused = call("clean", "old")
    assert refused.code == 2
    assert "pass --yes" in refused.stderr
    assert folder.is_dir()
    assert call("clean", "old", "--yes").code == 0
    assert not folder.exists()


def test_the_version_is_shown(env: dict[str, str]) -> None:
    assert process(env, "--version").stdout.startswith("lorasum 0.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare"], "Missing option '--config'"),
        (["prepare", "--fast"], "No such option: --fast"),
        (["config"], "Missing command."),
        (["evaluate", "-c", "x.yaml", "--limit", "0"], "--limit"),
    ],
)
def test_wrong_usage_is_one_line_with_a_hint(call: Callable[..., Ended], arguments: list[str], message: str) -> None:
    assert_error(call(*arguments), message)


def test_a_missing_config_is_asked_for_by_an_example(call: Callable[..., Ended]) -> None:
    hint = call("prepare").stderr.splitlines()[1]
    assert hint.startswith("hint: name the YAML file of the run, such as lorasum prepare run.yaml;")


@pytest.mark.parametrize(
    ("verb", "hint"),
    [("teardown", "file, or --all"), ("status", "file, or nothing for all runs"), ("report", "file"), ("logs", "file")],
)
def test_the_name_of_a_run_is_known_but_no_argument(
    call: Callable[..., Ended], tmp_path: Path, verb: str, hint: str
) -> None:
    (tmp_path / "home" / "runs" / "chats").mkdir(parents=True)
    said = call(verb, "chats").stderr.splitlines()[1]
    assert said == f"hint: chats is a run: name its YAML {hint}; see lorasum {verb} --help"


def test_an_option_without_its_value_points_at_the_help_of_its_verb(call: Callable[..., Ended]) -> None:
    assert call("predict", "--text").stderr.splitlines()[1] == "hint: see lorasum predict --help"


def test_a_wrong_config_is_one_line_with_its_place(call: Callable[..., Ended], config: str) -> None:
    assert_error(call("prepare", "-c", config, "--set", "training.epoch=1"), "did you mean training.epochs?")
    assert_error(call("train", "--config", "/nowhere/x.yaml", "--json"), "/nowhere/x.yaml: cannot read it")


def test_all_problems_of_a_config_are_reported_at_once(call: Callable[..., Ended], config: str) -> None:
    result = call("config", "show", "-c", config, "--set", "lora.r=0", "--set", "nam=x")
    assert result.code == 2
    assert result.stderr.splitlines()[:3] == [
        "error: 2 problems with the config",
        "  --set lora.r=0: lora.r: must be greater than 0 (got 0)",
        "  --set nam=x: nam: unknown key, did you mean name?",
    ]


def test_paths_of_a_config_through_a_pipe_begin_here(env: dict[str, str], tmp_path: Path) -> None:
    text = "name: x\nmodel: {id: a/b}\ndata: {train: chats.jsonl, test: more.jsonl}\n"
    (tmp_path / "x.yaml").write_text(text)
    for given in ("-c - < x.yaml", "-c <(cat x.yaml)"):
        shown = shell(env, f"cd {tmp_path}; lorasum config show {given} --json")
        assert json.loads(shown.stdout)["data"]["train"] == str(tmp_path / "chats.jsonl"), shown.stderr


def test_a_config_is_shown_as_it_is_used(call: Callable[..., Ended], config: str) -> None:
    shown = call("config", "show", "--set", "training.epochs=1", "--json", config)
    assert json.loads(shown.stdout)["training"]["epochs"] == 1
    text = call("config", "show", "-c", config).stdout
    again = Path(config).with_name("again.yaml")
    again.write_text(text, encoding="utf-8")
    assert call("config", "show", "-c", str(again)).stdout == text


def test_a_shown_config_has_no_secret(call: Callable[..., Ended], config: str) -> None:
    secret = "sagemaker.tags={owner: me, deploy_token: tiger}"
    for json_flag in ([], ["--json"]):
        shown = call("config", "show", "-c", config, "--set", secret, *json_flag).stdout
        assert "tiger" not in shown
        assert "<redacted>" in shown
        assert "owner" in shown


def test_another_name_of_a_key_is_warned_of_on_stderr(call: Callable[..., Ended], config: str) -> None:
    shown = call("config", "show", "-c", config, "--set", "data.chunk_length=64")
    assert "max_length: 64" in shown.stdout
    assert "data.chunk_length is another name of data.max_length" in shown.stderr


def test_a_config_may_stand_behind_the_verb(call: Callable[..., Ended], config: str) -> None:
    assert_error(call("prepare", config, "--set", "training.epoch=1"), "did you mean training.epochs?")
    assert_error(call("ls"), "unknown verb 'ls'")
    assert call("help", "train").stdout == call("train", "--help").stdout
    assert json.loads(call("status", "-q", "--json").stdout)["resources"] == []


def test_verbose_shows_our_own_frames_and_none_for_wrong_usage(call: Callable[..., Ended]) -> None:
    missing = call("prepare", "-v", "-c", "/nowhere/x.yaml").stderr
    assert "Traceback" in missing
    assert "/typer/" not in missing
    assert "Traceback" not in call("prepare", "-v", "--fast").stderr


def test_the_schema_is_json_under_force_color(env: dict[str, str]) -> None:
    schema = process({**env, "FORCE_COLOR": "1", "GITHUB_ACTIONS": "true"}, "config", "schema").stdout
    assert json.loads(schema)["properties"]["name"]["maxLength"] == 32


def test_init_writes_a_config_that_the_other_verbs_read(call: Callable[..., Ended], tmp_path: Path) -> None:
    chats = tmp_path / "chats.csv"
    row = '"Ada: the lift is stuck\nBo: I called them","Bo called about the lift."\n'
    chats.write_text(f"log,tldr\n{row * 3}", encoding="utf-8")
    output = str(tmp_path / "run.yaml")
    result = call("init", str(chats), "-o", output, "--backend", "local", "--json")
    assert (result.code, result.stderr) == (0, "")
    seen = json.loads(result.stdout)["data"]
    assert (seen["dialogue_column"], seen["summary_column"]) == ("log", "tldr")
    assert "summary: tldr" in call("config", "show", "-c", output).stdout
    assert_error(call("init", str(chats), "-o", output), "is there already")
    assert_error(call("init", "-o", str(tmp_path / "other.yaml")), "no data was given")
    assert_error(call("init", str(chats), "--example", "qwen"), "--example takes only")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "a", "--sample"], "--text and --sample do not go together"),
        (["--input", "a.jsonl"], "--input and --output go together"),
        (["--text", "a", "--output", "b.jsonl"], "--input and --output go together"),
        (["--file", "/nowhere/chat.txt"], "/nowhere/chat.txt: cannot read it"),
        (["--text", "caf\udce9"], "--text: not UTF-8 text, at byte 3"),
    ],
)
def test_predict_options_that_make_no_sense_are_refused(
    call: Callable[..., Ended], config: str, arguments: list[str], message: str
) -> None:
    assert_error(call("predict", "-c", config, *arguments), message)


def test_predict_before_deploy_says_so(env: dict[str, str], config: str) -> None:
    said = process(env, "predict", "-c", config, "--set", "predict.max_new_tokens=5", stdin="Ana: hi")
    assert_error(said, "no endpoint in service")
    assert said.stderr.endswith(f"hint: run `lorasum deploy {config} --set predict.max_new_tokens=5` first\n")


def test_a_teardown_of_something_asks_and_without_a_terminal_wants_yes(
    call: Callable[..., Ended], env: dict[str, str], config: str
) -> None:
    assert call("teardown", "-c", config).code == 0, "there is nothing to ask about"
    (Path(env["LORASUM_HOME"]) / "runs" / "chats" / "data").mkdir(parents=True)
    assert_error(call("teardown", "-c", config, "--data"), "no terminal to ask on")
    assert call("teardown", "-c", config, "--data", "--yes", "--json").code == 0


def test_nothing_is_written_before_there_is_something_to_write(
    call: Callable[..., Ended], env: dict[str, str], config: str
) -> None:
    status = call("status", "--json")
    assert json.loads(status.stdout) == {
        "resources": [],
        "alarms": [],
        "rebuilt": [],
        "run": None,
        "unread_ledgers": [],
    }
    all_torn_down = call("teardown", "--all", "--yes", "--json")
    for ended in (status, all_torn_down):  # a mistyped home looks like this too
        assert ended.stderr.startswith(f"warning: there is no ledger in {env['LORASUM_HOME']}: ")
    assert not Path(env["LORASUM_HOME"]).exists()
    Path(env["LORASUM_HOME"]).write_text("")
    assert_error(call("teardown", "--all", "--yes"), f"{env['LORASUM_HOME']} is no folder", code=2)


@pytest.mark.parametrize("verb", ["status", "runs", "teardown --all --yes"])
def test_a_damaged_ledger_is_a_warning_that_quiet_leaves(
    call: Callable[..., Ended], env: dict[str, str], verb: str
) -> None:
    home = Path(env["LORASUM_HOME"])
    home.mkdir()
    (home / "ledger.sqlite").write_bytes(b"damaged" * 1000)
    first, *_ = call(*verb.split(), "-q").stderr.splitlines()
    assert first.startswith("warning: the ledger is damaged and was set aside as ")


def test_a_damaged_ledger_is_an_alarm_until_it_is_deleted(call: Callable[..., Ended], env: dict[str, str]) -> None:
    """What it recorded may be billed, and the warning comes once, of whichever verb is the first."""
    home = Path(env["LORASUM_HOME"])
    home.mkdir()
    (home / "ledger.sqlite").write_bytes(b"damaged" * 1000)
    codes = [call(*verb.split()).code for verb in ("runs", "status", "status", "teardown --all --yes")]
    assert codes == [0, 3, 3, 3]
    [aside] = json.loads(call("status", "--json").stdout)["unread_ledgers"]
    assert call("status", "--rebuild").code == 0
    Path(aside).unlink()
    assert call("status").code == 0


def test_status_does_not_call_a_newer_ledger_empty(call: Callable[..., Ended], env: dict[str, str]) -> None:
    home = Path(env["LORASUM_HOME"])
    home.mkdir()
    with sqlite3.connect(home / "ledger.sqlite") as db:
        db.execute("PRAGMA user_version = 9")
    status = call("status")
    assert status.code == 3
    assert f"error: what was recorded in {home / 'ledger.sqlite'} may still run" in status.stderr


def test_status_exits_with_3_when_an_endpoint_outlives_its_time(
    call: Callable[..., Ended], env: dict[str, str]
) -> None:
    script = """
from datetime import UTC, datetime, timedelta
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Endpoint, Origin
for name, hours in ("over", -1), ("not-yet", 1):
    end = datetime.now(UTC) + timedelta(hours=hours)
    named = {"run": name, "name": name, "backend": "sagemaker", "artifact": "s3://a"}
    row = Endpoint(**named, origin=Origin(template=""), expires_at=end, ends_itself=name == "not-yet")
    Ledger().save(Ledger().intend(row))
"""
    subprocess.run([sys.executable, "-c", script], env=env, check=True)
    status = call("status", "--json")
    [alarm] = json.loads(status.stdout)["alarms"]
    assert (alarm["run"], alarm["kind"], alarm["backend"]) == ("over", "endpoint", "sagemaker")
    assert status.code == 3
    [warning, error, hint] = status.stderr.splitlines()
    assert warning == "warning: no AWS region is set: sagemaker is not asked about what is on record there"
    assert error == f"error: endpoint over: {alarm['reason']}"
    assert hint.startswith("hint: `lorasum teardown`")


def test_a_plan_of_what_cannot_start_is_a_failure(
    call: Callable[..., Ended], config: str, tiny_model_dir: Path
) -> None:
    """`lorasum plan run.yaml && lorasum train run.yaml` is a check before money is spent."""
    aws = ("--set", "backend=sagemaker", "--set", f"model.id={tiny_model_dir}")
    planned = call("plan", "-c", config, "--json", *aws, AWS_DEFAULT_REGION="", AWS_REGION="")
    [wrong] = [check for check in json.loads(planned.stdout)["checks"] if not check["ok"]]
    assert (planned.code, wrong["found"]) == (2, "no AWS region is set")
    assert planned.stderr.splitlines()[-2] == "error: this cannot start: no AWS region is set"


def test_a_plan_without_a_network_shows_what_is_known(
    call: Callable[..., Ended], config: str, tiny_model_dir: Path
) -> None:
    aws = ("--set", "backend=sagemaker", "--set", f"model.id={tiny_model_dir}")
    nowhere = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    keys = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "none"}
    planned = call("plan", "-c", config, "--json", *aws, **nowhere, **keys)
    shown = json.loads(planned.stdout)
    [unknown] = [check for check in shown["checks"] if not check["ok"]]
    assert (planned.code, unknown["what"], unknown["unknown"], shown["usd_per_hour"]) == (5, "credentials", True, None)
    assert len(shown["instances"]) > 3
    assert planned.stderr.splitlines()[-2].startswith("error: nobody knows whether this can start: cannot find out")


def test_the_option_for_sets_the_time_of_the_config(call: Callable[..., Ended], config: str) -> None:
    assert_error(call("deploy", "-c", config, "--for", "soon"), "deploy.expires_after")
    assert_error(call("deploy", "-c", config, "--for", "4h"), "no trained model")


def test_a_bug_is_one_line_and_its_traceback_comes_with_v(env: dict[str, str]) -> None:
    body = "secret = 'hush'; {}['key']"
    assert_error(boom(env, body), "unexpected KeyError: 'key'", code=1)
    for result in (boom(env, body, "-v"), boom(env, f"{body} if options.settings.verbose else 0", "--verbose")):
        assert result.returncode == 1
        assert "Traceback (most recent call last)" in result.stderr
        assert "error: unexpected KeyError" in result.stderr
    script = f"{BOOM}{body}\nentry.main()"
    before = subprocess.run([sys.executable, "-c", script, "-v", "boom"], env=env, capture_output=True, text=True)
    assert "Traceback" in before.stderr, "-v counts before the verb too"


def test_a_forbidden_file_is_no_bug_and_neither_is_a_missing_home(env: dict[str, str]) -> None:
    assert_error(boom(env, "raise PermissionError(13, '', '/srv/x')"), "cannot use /srv/x: Permission denied", code=2)
    homeless = {**env, "LORASUM_HOME": "", "HOME": ""}
    assert_error(process(homeless, "runs"), "this user has no home folder")
    unknown = "import pwd; del os.environ['HOME']; pwd.getpwuid = lambda number: {}[number]; "
    assert_error(boom(homeless, f"{unknown}from lorasum.system import paths; paths.home()"), "has no home folder")


@pytest.mark.parametrize(
    ("answer", "code", "said"), [("y\n", 0, "done\n"), ("n\n", 1, ""), ("\n", 1, ""), ("\x04", 1, "")]
)
def test_a_question_is_asked_on_a_terminal_and_no_is_the_default(
    env: dict[str, str], answer: str, code: int, said: str
) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    script = f"{BOOM}verb.confirm('Do that?', ['delete everything']); print('done')\nentry.main()"
    command = [sys.executable, "-c", script, "boom"]
    result = subprocess.run(
        command, env=env, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, text=True, check=False
    )
    os.close(theirs)
    asked = os.read(ours, 10_000).decode()
    os.close(ours)
    assert (result.returncode, result.stdout) == (code, said)
    assert "delete everything" in asked
    assert ("nothing was started, and nothing deleted" in asked) == bool(code)


@pytest.mark.parametrize(("given", "said"), [("the config", "stdin is the config"), ("", "")])
def test_stdin_with_a_config_does_not_answer_for_whoever_is_there(env: dict[str, str], given: str, said: str) -> None:
    """stderr is a terminal, so somebody is there; a script that reads a pipe of its own is not asked."""
    ours, theirs = pty.openpty()
    body = f"options.settings.stdin = {given!r}; verb.confirm_spending(False, lambda: 'a job'); print('started')"
    command = [sys.executable, "-c", f"{BOOM}{body}\nentry.main()", "boom"]
    result = subprocess.run(
        command, env=env, input="y\n", stdout=subprocess.PIPE, stderr=theirs, text=True, check=False
    )
    os.write(theirs, b"end\n")
    told = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(theirs)
    assert (result.returncode, result.stdout) == ((2, "") if given else (0, "started\n"))
    assert said in told
    assert ("pass --yes" in told) == bool(given)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("-c -", "the dialogue"),
        ("/dev/fd/0 --file /dev/stdin", "the dialogue"),
        ("-c /dev/stdin --input - --output x.jsonl", "the rows"),
        ("-c - --input /dev/fd/0 --output x.jsonl", "the rows"),
    ],
)
def test_stdin_is_not_read_for_two_things(env: dict[str, str], given: str, wanted: str) -> None:
    refused = process(env, "predict", *given.split(), stdin=CONFIG)
    assert_error(refused, f"stdin is the config, and cannot be {wanted} too")


@pytest.mark.parametrize("asks", ["verb.confirm('Do that?', ['x'])", "verb.confirm_spending(False, lambda: 'x')"])
def test_a_question_that_nobody_sees_is_not_asked(env: dict[str, str], asks: str) -> None:
    """stderr goes to a file, so whoever is at the terminal waits for a command that waits for them."""
    ours, theirs = pty.openpty()
    os.write(ours, b"y\n")
    command = [sys.executable, "-c", f"{BOOM}{asks}\nentry.main()", "boom"]
    result = subprocess.run(command, env=env, stdin=theirs, capture_output=True, text=True, check=False)
    os.close(theirs)
    os.close(ours)
    assert_error(result, "there is no terminal to ask on")
    assert result.stderr.endswith("hint: pass --yes\n")


def test_status_looks_again_on_a_terminal_until_ctrl_c(env: dict[str, str], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    ledger = Ledger(tmp_path / "home" / "ledger.sqlite")
    row = ledger.intend(Dataset(run="first", name="abc", backend="local", path="/data"))
    ledger.save(replace(row, state="done"))
    watching = {**env, "TERM": "xterm"}
    with Popen([*LORASUM, "status", "--watch", "1"], env=watching, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = _read_until(ours, b"first")
        ledger.save(replace(ledger.intend(replace(row, run="second", state="intended")), state="done"))
        seen = _read_until(ours, b"second")
        process.send_signal(signal.SIGINT)
        assert process.wait(200) == -signal.SIGINT
    os.close(ours)
    assert b"\x1b[2J" in seen, "the new look stands in the place of the old one"


def _read_until(terminal: int, words: bytes) -> bytes:
    seen = b""
    while words not in seen:
        assert select.select([terminal], [], [], 200)[0], seen
        seen += os.read(terminal, 10_000)
    return seen


@pytest.mark.parametrize(
    ("name", "said", "code"),
    [("INT", "Ctrl-C", -signal.SIGINT), ("TERM", "SIGTERM", 130), ("HUP", "a closed terminal", 130)],
)
def test_an_interrupt_is_130_whatever_the_signal(env: dict[str, str], name: str, said: str, code: int) -> None:
    result = boom(env, f"print('result'); signal.raise_signal(signal.SIG{name})")
    assert (result.returncode, result.stdout) == (code, "result\n"), "130 for a shell, and all is written"
    assert result.stderr == f"stopping, because of {said}; a second time ends at once\ninterrupted\n"


def test_ctrl_c_ends_the_loop_of_a_shell(env: dict[str, str], tmp_path: Path) -> None:
    """A shell goes on with the next round, which costs money too, unless the signal has ended what it runs."""
    script = tmp_path / "interrupted.py"
    script.write_text(f"{BOOM}os.killpg(0, signal.SIGINT); signal.pause()\nentry.main()\n")  # as a terminal does
    loop = f"for round in 1 2; do echo $round; {sys.executable} {script} boom; done"
    ended = subprocess.run(
        ["bash", "-c", loop], env=env, capture_output=True, text=True, start_new_session=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGINT, "1\n"), ended.stderr


def test_work_goes_on_when_nobody_reads_its_progress(env: dict[str, str], tmp_path: Path) -> None:
    done = tmp_path / "done"
    body = (
        "from lorasum.ui.reporter import ConsoleReporter as R; r = R(); [r.step('x' * 999) for _ in range(999)]; "
        f"open({str(done)!r}, 'w').close()"
    )
    script = f"{BOOM}{body}\nentry.main()"
    command = [sys.executable, "-c", script, "boom"]
    with Popen(command, env=env, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.stderr.close()
        assert process.wait(200) == 0
    assert done.exists()


def test_work_goes_on_when_its_progress_fills_the_disk(env: dict[str, str], tmp_path: Path) -> None:
    done = tmp_path / "done"
    body = (
        "from lorasum.ui.reporter import ConsoleReporter as R; r = R(); [r.step('x' * 999) for _ in range(99)]; "
        f"r.warn('y'); open({str(done)!r}, 'w').close()"
    )
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run([sys.executable, "-c", f"{BOOM}{body}\nentry.main()", "boom"], env=env, stderr=full)
    assert ended.returncode == 0
    assert done.exists()


def test_a_reader_that_leaves_is_no_error(env: dict[str, str]) -> None:
    result = shell(env, 'lorasum config schema | head -1; echo "${PIPESTATUS[0]}"')
    assert (result.stdout, result.stderr) == ("{\n0\n", "") or (result.stdout, result.stderr) == ("{\n141\n", "")
    for arguments in (["config", "schema"], ["--help"], ["train", "--help"]):
        theirs, ours = os.pipe()
        os.close(theirs)
        ended = subprocess.run([*LORASUM, *arguments], env=env, stdout=ours, stderr=subprocess.PIPE, check=False)
        os.close(ours)
        assert (ended.returncode, ended.stderr) == (141, b""), "nobody ever read it"


def test_a_full_disk_under_stdout_is_an_error(env: dict[str, str]) -> None:
    result = shell(env, "lorasum config schema > /dev/full")
    assert_error(result, "cannot write what was to be printed: No space left on device", code=2)
    assert shell(env, "lorasum config schema > /dev/full 2> /dev/full").returncode == 2, "nobody can be told"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_fault(env: dict[str, str], closed: str) -> None:
    result = shell(env, f"lorasum runs --json {closed}")
    assert (result.returncode, result.stderr) == (0, "")
    assert bool(result.stdout) == (">&-" not in closed.replace("2>&-", ""))
    home = Path(env["LORASUM_HOME"])
    assert not any(b'"resources"' in path.read_bytes() for path in home.glob("*")), "no file took the stream's place"


def test_predict_with_stdin_closed_asks_for_a_dialogue(env: dict[str, str], config: str) -> None:
    result = shell(env, f"lorasum predict {config} <&-")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert "\nhint: " in result.stderr


def test_text_beyond_the_locale_does_not_fail(env: dict[str, str], config: str) -> None:
    plain = {**env, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    shown = process(plain, "config", "show", "-c", config, "--set", 'data.template="{dialogue} \\u2192 \\U0001F642"')
    assert shown.returncode == 0
    assert "\\u2192" in shown.stdout


def test_results_chain_in_a_script_that_stops_at_the_first_error(env: dict[str, str], config: str) -> None:
    read = f"{sys.executable} -c 'import json, sys; print(json.load(sys.stdin)[\"name\"])'"
    script = f"set -euo pipefail; name=$(lorasum config show {config} --json | {read}); echo $name"
    assert shell(env, script).stdout == "chats\n"
    failing = shell(env, f"set -e; lorasum config show {config} --set nam=1 --json; echo not reached")
    assert (failing.returncode, failing.stdout) == (2, "")

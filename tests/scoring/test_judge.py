"""A judge asked over OpenAI's chat protocol: a real server in a thread, which says what the test tells it to."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_server import GOOD, JudgeServer

from lorasum.config.schema import JudgeConfig
from lorasum.errors import BackendError, ConfigError
from lorasum.scoring.judge import CapReachedError, Judge, Verdict


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as made:
        yield made


@pytest.fixture
def make_judge(server: JudgeServer, tmp_path: Path) -> Callable[..., Judge]:
    def make(**settings: Any) -> Judge:
        return Judge(JudgeConfig(url=server.url, model="judge-1", **settings), tmp_path / "judge.jsonl")

    return make


def test_marks_are_asked_for_with_a_schema_and_read(server: JudgeServer, make_judge: Callable[..., Judge]) -> None:
    assert make_judge().mark("Ann: hi", "Ann says hi.") == Verdict(**GOOD)
    [(path, body, key)] = server.requests
    assert path == "/v1/chat/completions"
    assert body["model"] == "judge-1"
    assert body["temperature"] == 0
    assert body["response_format"]["json_schema"]["schema"]["required"] == [*list(GOOD)]
    assert "Ann: hi" in body["messages"][1]["content"]
    assert key is None


def test_the_same_question_is_answered_from_the_cache(server: JudgeServer, make_judge: Callable[..., Judge]) -> None:
    make_judge().mark("Ann: hi", "Ann says hi.")
    again = make_judge()
    assert again.mark("Ann: hi", "Ann says hi.").coverage == 3
    assert again.usd == 0
    assert len(server.requests) == 1
    again.mark("Ann: hi", "Ann leaves.")
    assert len(server.requests) == 2


def test_half_a_line_in_the_cache_is_asked_again(
    server: JudgeServer, make_judge: Callable[..., Judge], tmp_path: Path
) -> None:
    make_judge().mark("Ann: hi", "Ann says hi.")
    cache = tmp_path / "judge.jsonl"
    cache.write_text(cache.read_text()[:40])
    make_judge().mark("Ann: hi", "Ann says hi.")
    assert len(server.requests) == 2


def test_the_better_summary_wins_in_either_order(server: JudgeServer, make_judge: Callable[..., Judge]) -> None:
    def likes_the_short_one(body: dict[str, Any]) -> str:
        first, second = (body["messages"][1]["content"].split(f"<{name}>")[1] for name in ("first", "second"))
        return json.dumps(
            {"better": "first" if "short" in first.split("</first>")[0] else "second", "reason": second[:3]}
        )

    server.say = likes_the_short_one
    assert make_judge().prefer("Ann: hi", "short", "a long one") == "first"
    assert make_judge().prefer("Ann: hi", "a long one", "short") == "second"


def test_a_judge_that_prefers_the_first_of_two_gives_a_tie(
    server: JudgeServer, make_judge: Callable[..., Judge]
) -> None:
    server.say = lambda _: json.dumps({"better": "first", "reason": "It stands first."})
    assert make_judge().prefer("Ann: hi", "one", "two") == "tie"


def test_json_in_a_fence_of_markdown_is_read(server: JudgeServer, make_judge: Callable[..., Judge]) -> None:
    server.say = lambda _: f"Here it is:\n```json\n{json.dumps(GOOD)}\n```"
    assert make_judge().mark("Ann: hi", "Ann says hi.").conciseness == 5


@pytest.mark.parametrize(
    "said",
    [
        "I cannot judge.",
        "{}",
        json.dumps(GOOD | {"coverage": 9}),
        json.dumps(GOOD | {"coverage": "3"}),
        "[1]",
        '{"a": ',
    ],
)
def test_an_answer_of_another_form_is_asked_for_twice_and_refused(
    server: JudgeServer, make_judge: Callable[..., Judge], said: str
) -> None:
    server.say = lambda _: said
    with pytest.raises(BackendError, match="has not the form of the rubric"):
        make_judge().mark("Ann: hi", "Ann says hi.")
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_judge_that_refuses_is_one_error(server: JudgeServer, make_judge: Callable[..., Judge], status: int) -> None:
    server.say = lambda _: (status, "no\nway")
    with pytest.raises(BackendError, match=f"refused with HTTP {status}: no way"):
        make_judge().mark("Ann: hi", "Ann says hi.")


def test_a_slow_judge_is_one_error(server: JudgeServer, make_judge: Callable[..., Judge]) -> None:
    def silent(_: dict[str, Any]) -> str:
        server.closed.wait()
        return json.dumps(GOOD)

    server.say = silent
    with pytest.raises(BackendError, match="did not answer in"):
        make_judge(timeout=0.1).mark("Ann: hi", "Ann says hi.")


def test_max_usd_ends_judging_and_keeps_the_verdicts(server: JudgeServer, make_judge: Callable[..., Judge]) -> None:
    prices = {"usd_per_million_input": 100.0, "usd_per_million_output": 1000.0, "max_usd": 0.35}
    judge = make_judge(**prices)  # an answer costs 1000 × $100/M + 100 × $1000/M = $0.20
    judge.mark("Ann: hi", "one")
    judge.mark("Ann: hi", "two")
    assert judge.usd == pytest.approx(0.40)
    with pytest.raises(CapReachedError, match=r"has cost \$0.40"):
        judge.mark("Ann: hi", "three")
    assert make_judge(**prices).mark("Ann: hi", "two").coverage == 3
    assert len(server.requests) == 2


def test_the_key_comes_from_the_environment(
    server: JudgeServer, make_judge: Callable[..., Judge], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(ConfigError, match="no JUDGE_KEY"):
        make_judge(key_env="JUDGE_KEY").mark("Ann: hi", "Ann says hi.")
    monkeypatch.setenv("JUDGE_KEY", "k-123")
    make_judge(key_env="JUDGE_KEY").mark("Ann: hi", "Ann says hi.")
    assert server.requests[0][2] == "Bearer k-123"


def test_a_server_of_another_kind_is_named(tmp_path: Path) -> None:
    judge = Judge(JudgeConfig(url="http://127.0.0.1:9/v1", model="m"), tmp_path / "judge.jsonl")
    with pytest.raises(BackendError, match="cannot be reached"):
        judge.mark("Ann: hi", "Ann says hi.")


def test_a_cap_without_prices_is_refused() -> None:
    with pytest.raises(ValueError, match="max_usd needs"):
        JudgeConfig(url="http://localhost/v1", model="m", max_usd=1.0)

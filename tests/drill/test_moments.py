"""Signals at any moment: at single steps of the main thread (stand_in/steps.py), and after times drawn at random.

Whatever the moment, the verb ends soon. It leaves nothing running of which it does not tell and the ledger does not
know, and the same verb or a teardown goes on from there.
"""

import io
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import stand_in_jobs
from forks import Zygote
from local_world import BEFORE as BEFORE_HERE
from local_world import REAL, LocalWorld, local_world, make_local_world
from moments import SIGNALS, Moments, check_stopped
from world import BEFORE as BEFORE_AWS
from world import SWEEP, World, stub_job

from shared.events import DoneEvent, event_line

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

LATER = pytest.mark.drill  # not in `make test`
STARTS = ("deploy", "update", "deploy --for")
OTHERS = {
    "plan": ["plan"],
    "status": ["status"],
    "logs": ["logs", "--endpoint"],
    "report": ["report"],
    "init": ["init", "--example", "quickstart", "--output", "{here}/new.yaml", "--force"],
    "predict --text": ["predict", "--text", "Ana: at six? Ben: yes"],
    "evaluate --concurrency": ["evaluate", "--concurrency", "8"],
    "runs": ["runs"],
    "predict --output -": ["predict", "--input", "{here}/rows.jsonl", "--output", "-", "--concurrency", "8"],
}
"""Commands that start nothing."""
ENDLESS = {"status --watch": ["status", "--watch", "1"], "logs --follow": ["logs", "--endpoint", "--follow"]}
TOLD = "until `lorasum teardown "


here = local_world()


@pytest.mark.parametrize(
    "verb", [verb if verb == "deploy" else pytest.param(verb, marks=LATER) for verb in BEFORE_HERE]
)
def test_a_signal_at_any_moment_here(here: LocalWorld, tried: Counter[str], verb: str) -> None:
    here.restore(BEFORE_HERE[verb])
    moments = Moments(partial(here.start, verb), verb, SIGNALS)
    for what, interrupt in moments.draw():
        here.restore(BEFORE_HERE[verb])
        ended = interrupt()
        check_stopped(ended, what)
        live = here.live()
        assert set(live) <= set(here.recorded()), f"{what}: {live} runs, and {here.recorded()} is recorded"
        if ended.code and verb in ("train", "deploy", "run"):
            assert not live or TOLD in ended.stderr or ended.stdout, f"{what}, left: {live}"
        kept = f"{here.output}."  # answers, from which `predict` goes on
        assert [path for path in here.left_over() if not path.startswith(kept)] == [], what
        again = here.call(verb)
        assert again.code == 0, f"{what}, then again: {again.stderr}"
        here.check_after(verb)
        tried[f"a signal at any moment of {verb}, on this machine"] += 1


@pytest.mark.drill
@pytest.mark.parametrize("command", [*OTHERS, *ENDLESS])
def test_a_signal_at_any_moment_of_what_starts_nothing(here: LocalWorld, tried: Counter[str], command: str) -> None:
    here.restore("deploy")
    arguments = [text.format(here=here.folder) for text in {**OTHERS, **ENDLESS}[command]]
    (here.folder / "rows.jsonl").write_text('{"dialogue": "Ana: at six? Ben: yes"}\n' * 500)
    moments = Moments(partial(here.start, *arguments), command, SIGNALS)
    for what, interrupt in moments.draw() if command in OTHERS else moments.draw_times(3.0):
        ended = interrupt()
        check_stopped(ended, what)
        assert here.live() == here.recorded() == ["endpoint tiny"], what
        if command in OTHERS:
            again = here.call(*arguments)
            assert again.code == 0, f"{what}, then again: {again.stderr}"
        tried[f"a signal at any moment of {command}, on this machine"] += 1


@pytest.mark.drill
def test_a_signal_at_any_moment_of_a_streamed_answer(
    tmp_path: Path, tiny_model_dir: Path, tiny_chats: Path, clients: Zygote, tried: Counter[str]
) -> None:
    """From a model: the stub does not stream."""
    command = ["predict", "--stream", "--text", "Ana: at six? Ben: yes", "--set", "predict.max_new_tokens=100"]
    for real in make_local_world(tmp_path, tiny_model_dir, tiny_chats, clients, REAL):
        real.restore("deploy")
        for what, interrupt in Moments(partial(real.start, *command), "predict --stream", SIGNALS).draw():
            check_stopped(interrupt(), what)
            assert real.live() == real.recorded() == ["endpoint tiny"], what
            again = real.call(*command)
            assert again.code == 0, f"{what}, then again: {again.stderr}"
            tried["a signal at any moment of predict --stream, on this machine"] += 1


@pytest.mark.drill
def test_a_signal_at_any_moment_of_a_sweep_leaves_no_trial_running(here: LocalWorld, tried: Counter[str]) -> None:
    here.restore("prepare")
    for what, interrupt in Moments(partial(here.start, *SWEEP), "sweep", SIGNALS).draw():
        here.restore("prepare")
        ended = interrupt()
        check_stopped(ended, what)
        live = [job for folder in (here.home / "runs").iterdir() for job in here.live(folder.name)]
        assert live == [], f"{what}: {ended.stderr}"
        again = here.call(*SWEEP)
        assert again.code == 0, f"{what}, then again: {again.stderr}"
        tried["a signal at any moment of sweep, on this machine"] += 1


@pytest.mark.drill
def test_a_signal_at_any_moment_of_a_sweep_on_aws(
    world: World, tried: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(job: stand_in_jobs.Job, root: Path, began: float) -> int:
        if job.stopping.wait(1.0):
            return 143
        said = io.BytesIO(f"{event_line(DoneEvent(1.5, 1.25, 900, 90.0, 10.0, 9))}\n".encode())
        job.aws.log_lines(said, stand_in_jobs.GROUP, f"{job.description['TrainingJobName']}/algo-1").join()
        return stub_job(job, root, began)

    monkeypatch.setattr(stand_in_jobs.Job, "_execute", execute)
    world.restore("prepare")
    for what, interrupt in Moments(partial(world.start, "sweep"), "sweep, on AWS", SIGNALS).draw():
        world.restore("prepare")
        ended = interrupt()
        check_stopped(ended, what)
        assert [job for job in world.billed() if f"job {job} may still run" not in ended.stderr] == [], what
        again = world.call("sweep")
        assert again.code == 0, f"{what}, then again: {again.stderr}"
        assert world.billed() == [], what
        tried["a signal at any moment of sweep, on AWS"] += 1


@pytest.mark.drill
@pytest.mark.parametrize("command", ["status", "logs --follow"])
def test_a_signal_at_any_moment_of_what_starts_nothing_on_aws(world: World, tried: Counter[str], command: str) -> None:
    world.restore("deploy")
    moments = Moments(partial(world.start, command), f"{command}, on AWS", SIGNALS)
    for what, interrupt in moments.draw_times(3.0) if "follow" in command else moments.draw():
        check_stopped(interrupt(), what)
        assert world.endpoints == ["tiny"], what
        assert world.call("status").code == 0, what
        tried[f"a signal at any moment of {command}, on AWS"] += 1


@pytest.mark.parametrize("verb", [verb if verb == "train" else pytest.param(verb, marks=LATER) for verb in BEFORE_AWS])
def test_a_signal_at_any_moment_on_aws(world: World, tried: Counter[str], verb: str) -> None:
    world.restore(BEFORE_AWS[verb])
    moments = Moments(partial(world.start, verb), verb, SIGNALS)
    for what, interrupt in moments.draw():
        world.restore(BEFORE_AWS[verb])
        ended = interrupt()
        check_stopped(ended, what)
        left = set(world.endpoints)
        assert verb != "deploy --for" or not left or world.aws.scheduler.schedules(), f"{what}: it would run for ever"
        served = BEFORE_AWS[verb] == "deploy" or TOLD in ended.stderr or (verb in STARTS and ended.stdout)
        assert left <= ({"tiny"} if served and verb != "run" else set()), f"{what}, left: {left}"
        if BEFORE_AWS[verb] == "deploy" and verb != "teardown":
            assert left == {"tiny"}, f"{what}: what served before goes on"
        world.check_nothing_after_teardown()
        tried[f"a signal at any moment of {verb}, on AWS"] += 1

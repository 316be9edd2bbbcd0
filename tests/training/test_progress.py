import io
import sys
import time

import pytest

from tests.training.fake_agent import FakeAgent
from tfzoo.training import Progress


def shown(progress, agent, steps, stdout, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stdout)
    agent.prepare(None)
    agent.fit(None, steps, callbacks=[progress])
    progress.close()
    return stdout.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_file_gets_lines(monkeypatch):
    text = shown(
        Progress(100, seconds_between_lines=0.0),
        FakeAgent(),
        30,
        io.StringIO(),
        monkeypatch,
    )
    *lines, last = text.splitlines()
    assert len(lines) == 2, "the end is shown once"
    assert lines[0].startswith("10 of 100 steps (10%), 1,000 steps/s, return 0.")
    assert last.startswith("30 of 100 steps (30%)")
    assert "\x1b" not in text


def test_lines_come_every_few_seconds_and_at_the_end(monkeypatch):
    text = shown(
        Progress(100, seconds_between_lines=60.0),
        FakeAgent(),
        100,
        io.StringIO(),
        monkeypatch,
    )
    assert text.count("\n") == 1
    assert text.startswith("100 of 100 steps (100%)")


def test_the_last_return_stays_where_no_episode_ended(monkeypatch):
    text = shown(
        Progress(20, seconds_between_lines=0.0),
        FakeAgent(),
        20,
        io.StringIO(),
        monkeypatch,
    )
    first, second = text.splitlines()
    assert "nan" not in second
    assert first.split("return")[1] == second.split("return")[1]


def test_a_terminal_gets_a_bar_which_ends_with_its_line(monkeypatch):
    text = shown(Progress(40), FakeAgent(), 20, Terminal(), monkeypatch)
    assert "━" in text
    assert "20/40" in text
    assert "steps/s: 1000.0" in text
    assert text.count("\n") == 1
    assert text.endswith("\n")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_long_epoch_shows_its_progress(terminal, monkeypatch):
    stdout, now, agent = Terminal() if terminal else io.StringIO(), 100.0, FakeAgent()
    monkeypatch.setattr(sys, "stdout", stdout)
    for clock in ("monotonic", "time"):
        monkeypatch.setattr(time, clock, lambda: now)
    agent.prepare(None)
    progress = Progress(40, metric="loss", label="loss", seconds_between_bars=5.0)
    progress.set_model(agent)
    progress.on_train_begin()
    progress.on_epoch_begin(0)
    shown = []
    for batch in range(10):
        now += 1.0
        agent.steps.assign_add(2)
        before = stdout.getvalue()
        progress.on_train_batch_end(batch, {"loss": float(batch)})
        if stdout.getvalue() != before:
            shown.append(batch)
    assert shown == [4, 9]
    if terminal:
        assert "20/40" in stdout.getvalue()
    else:
        assert stdout.getvalue().splitlines() == [
            "10 of 40 steps (25%), 2 steps/s, loss 4.0",
            "20 of 40 steps (50%), 2 steps/s, loss 9.0",
        ]

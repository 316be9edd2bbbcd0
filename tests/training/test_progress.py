import io
import sys

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

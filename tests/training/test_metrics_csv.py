import csv

import pytest

from tests.training.fake_agent import FakeAgent
from tfzoo.training import MetricsCSV
from tfzoo.training.metrics_csv import NOT_REPRODUCIBLE, cut_metrics

HEADER = "steps,loss,seconds\n"
ROWS = ["10,0.5,1.0\n", "20,0.25,2.0\n", "30,nan,3.0\n"]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(HEADER + "".join(ROWS))
    return path


def test_each_epoch_is_a_row_and_what_differs_between_runs_comes_last(tmp_path):
    agent = FakeAgent()
    agent.prepare(None)
    path = tmp_path / "metrics.csv"
    history = agent.fit(None, 30, callbacks=[MetricsCSV(path)]).history
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    first, *_, next_to_last, last = rows[0]
    assert first == "steps"
    assert {next_to_last, last} == {"seconds", "steps_per_second"}
    assert {next_to_last, last} <= set(NOT_REPRODUCIBLE)
    assert [row["steps"] for row in rows] == ["10", "20", "30"]
    assert [float(row["policy_loss"]) for row in rows] == history["policy_loss"]


def test_a_row_is_on_the_disk_before_the_next_epoch(tmp_path):
    path = tmp_path / "metrics.csv"
    sizes = []
    agent = FakeAgent(
        on_epoch=lambda steps: sizes.append(
            path.exists() and len(path.read_text().splitlines())
        )
    )
    agent.prepare(None)
    agent.fit(None, 40, callbacks=[MetricsCSV(path)])
    assert sizes == [False, 2, 3, 4]


@pytest.mark.parametrize(("steps", "kept"), [(10, 1), (25, 2), (30, 3), (99, 3)])
def test_rows_beyond_the_restored_step_are_cut(path, steps, kept):
    assert cut_metrics(path, steps) == ["steps", "loss", "seconds"]
    assert path.read_text() == HEADER + "".join(ROWS[:kept])


def test_a_file_without_rows_begins_anew(path):
    assert cut_metrics(path, 9) is None
    assert not path.exists()
    assert cut_metrics(path, 9) is None


@pytest.mark.parametrize("rest", ["4", "40,0.12", "\0\0\0\0", "\0\0\n"])
def test_what_was_not_wholly_written_is_cut(path, rest):
    with open(path, "a") as file:
        file.write(rest)
    cut_metrics(path, 99)
    assert path.read_text() == HEADER + "".join(ROWS)


@pytest.mark.parametrize("text", ["", "ste", HEADER])
def test_a_file_cut_short_by_a_kill_begins_anew(path, text):
    path.write_text(text)
    assert cut_metrics(path, 99) is None
    assert not path.exists()

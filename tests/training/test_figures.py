import imageio.v3
import numpy as np
import pytest

from tfzoo.training import figures


def write_metrics(path, steps, returns):
    rows = [f"{s},{r},1.0\n" for s, r in zip(steps, returns, strict=True)]
    path.write_text("steps,episode_return,seconds\n" + "".join(rows))
    return path


@pytest.fixture
def drawn(monkeypatch):
    """The matplotlib axes of the figures that are drawn."""
    from matplotlib.figure import Figure

    axes = []
    subplots = Figure.subplots

    def recorded(self, *arguments, **keywords):
        grid = subplots(self, *arguments, **keywords)
        axes.extend(grid.flat)
        return grid

    monkeypatch.setattr(Figure, "subplots", recorded)
    return axes


def test_a_run_is_a_line_without_the_epochs_in_which_no_episode_ended(tmp_path, drawn):
    metrics = write_metrics(tmp_path / "m.csv", [10, 20, 30], [1.0, "nan", 3.0])
    figures.learning_curve(metrics, tmp_path / "curve.png", title="CartPole-v1")
    (line,) = drawn[0].lines
    np.testing.assert_array_equal(line.get_xydata(), [[10, 1], [30, 3]])
    assert drawn[0].get_xlabel() == "environment steps"
    assert drawn[0].get_ylabel() == "episode return while training"
    assert imageio.v3.imread(tmp_path / "curve.png").shape[:2] == (600, 960)


def test_a_group_is_its_mean_and_standard_deviation(tmp_path, drawn):
    steps = [0, 10, 20]
    paths = [
        write_metrics(tmp_path / "a.csv", steps, [0.0, 2.0, 4.0]),
        write_metrics(tmp_path / "b.csv", steps, [2.0, 6.0, 12.0]),
    ]
    figures.learning_curves({"PPO": paths, "A2C": paths[:1]}, tmp_path / "c.png")
    line, other = drawn[0].lines
    np.testing.assert_array_equal(line.get_ydata(), [1, 4, 8])
    np.testing.assert_array_equal(other.get_ydata(), [0, 2, 4])
    (band,) = drawn[0].collections
    outline = {tuple(point) for point in band.get_paths()[0].vertices}
    # One deviation of two numbers is half their distance.
    assert {(0.0, 0.0), (0.0, 2.0), (20.0, 4.0), (20.0, 12.0)} <= outline
    labels = [text.get_text() for text in drawn[0].get_legend().get_texts()]
    assert labels == ["PPO (mean of 2 runs ± standard deviation)", "A2C"]


def test_runs_are_compared_where_all_of_them_are(tmp_path, drawn):
    paths = [
        write_metrics(tmp_path / "a.csv", [10, 20, 30, 40], [1.0, 2.0, 3.0, 4.0]),
        write_metrics(tmp_path / "b.csv", [15, 35], [1.5, 3.5]),
    ]
    figures.learning_curves({"PPO": paths}, tmp_path / "curves.png")
    np.testing.assert_allclose(drawn[0].lines[0].get_xydata(), [[20, 2], [30, 3]])


def test_a_run_in_which_no_episode_ended_has_no_curve(tmp_path, drawn):
    metrics = write_metrics(tmp_path / "m.csv", [10, 20], ["nan", "nan"])
    figures.learning_curve(metrics, tmp_path / "curve.png")
    assert not drawn[0].lines
    assert (tmp_path / "curve.png").exists()


def test_panels_stand_side_by_side(tmp_path, drawn):
    metrics = write_metrics(tmp_path / "m.csv", [10, 20], [1.0, 2.0])
    panels = {"one": {"": [metrics]}, "two": {"": [metrics], "more": [metrics]}}
    figures.learning_curve_panels(panels, tmp_path / "curves.png")
    assert [axes.get_title(loc="left") for axes in drawn] == ["one", "two"]
    assert [len(axes.lines) for axes in drawn] == [1, 2]

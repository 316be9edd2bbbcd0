import importlib.util

import imageio.v3
import numpy as np
import pytest

from tfzoo.environments import MissingPackageError
from tfzoo.training import UserError, write_video

# A bar that moves to the right; odd sizes are what encoders stumble over.
FRAMES = [np.full((35, 51, 3), 255, np.uint8) for _ in range(12)]
for number, frame in enumerate(FRAMES):
    frame[:, 4 * number : 4 * number + 3] = (200, 30, 0)


def test_a_gif_holds_every_frame_and_its_duration(tmp_path):
    path = tmp_path / "episode.gif"
    write_video(path, FRAMES, frames_per_second=20)
    np.testing.assert_array_equal(imageio.v3.imread(path), FRAMES)
    assert imageio.v3.immeta(path)["duration"] == 50
    assert imageio.v3.immeta(path)["loop"] == 0


def test_a_gif_of_a_long_episode_leaves_out_frames_evenly(tmp_path):
    path = tmp_path / "episode.gif"
    frames = [np.full((4, 4, 3), (n % 256, n // 256, 0), np.uint8) for n in range(601)]
    write_video(path, frames)
    np.testing.assert_array_equal(imageio.v3.imread(path), frames[::3])


def test_an_mp4_is_close_to_the_frames(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="the extra `video` is not installed")
    path = tmp_path / "episode.mp4"
    write_video(path, FRAMES, frames_per_second=25)
    frames = imageio.v3.imread(path, plugin="FFMPEG").astype(float)
    assert frames.shape == (12, 34, 50, 3)
    assert np.abs(frames - np.stack(FRAMES)[:, :34, :50]).mean() < 20
    assert imageio.v3.immeta(path, plugin="FFMPEG")["fps"] == 25


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r'pip install "tfzoo\[video\]"'):
        write_video(tmp_path / "episode.mp4", FRAMES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["episode.avi", "episode", "missing/episode.gif"])
def test_a_path_that_cannot_be_written_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=name):
        write_video(tmp_path / name, FRAMES)


def test_a_folder_is_not_overwritten(tmp_path):
    (tmp_path / "play.gif").mkdir()
    (tmp_path / "play.gif" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"play\.gif cannot be written: it is a folder"):
        write_video(tmp_path / "play.gif", FRAMES)
    assert (tmp_path / "play.gif" / "thesis.txt").read_text() == "years of work"

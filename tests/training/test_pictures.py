import keras
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfzoo.training.pictures import (
    TrainingPictures,
    image_grid,
    training_pictures,
    write_training_animation,
)


def test_images_stand_in_rows_with_white_between():
    images = np.zeros((5, 60, 50, 1))
    images[3] = 1.0
    images[4] = 0.5
    grid = image_grid(images, num_columns=3, padding=2)
    assert grid.dtype == np.uint8
    assert grid.shape == (2 * 62 + 2, 3 * 52 + 2, 3)
    assert (grid[2:62, 2:52] == 0).all()
    assert (grid[64:124, 2:52] == 255).all()
    assert (grid[64:124, 54:104] == 128).all()
    assert (grid[64:124, 106:] == 255).all()
    assert (grid[:2] == 255).all()


def test_the_range_of_values_becomes_black_to_white():
    images = np.array([-1.0, 0.0, 1.0, 7.0]).reshape(1, 1, 4, 1).repeat(48, 1)
    grid = image_grid(images, value_range=(-1.0, 1.0), padding=0)
    assert grid[0, :, 0].tolist() == [0, 128, 255, 255]


def test_small_images_have_large_pixels():
    grid = image_grid(np.arange(4).reshape(1, 2, 2, 1) / 3, padding=0)
    assert grid.shape == (48, 48, 3)
    assert np.unique(grid[:24, :24]).tolist() == [0]
    assert np.unique(grid[:24, 24:]).tolist() == [85]


@pytest.mark.parametrize("shape", [(0, 4, 4, 1), (2, 4, 4, 2), (4, 4, 1)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ValueError, match="made of images"):
        image_grid(np.zeros(shape))


class Model(keras.Model):
    steps = 0


def run(directory, epochs, first=0, every=1, last=None):
    model = Model()
    model.steps = 10 * first

    def draw():
        return np.full((4, 4, 3), model.steps, np.uint8)

    callback = TrainingPictures(
        draw,
        directory / "samples",
        directory / "events",
        every=every,
        last_step=10 * (last or epochs),
    )
    callback.set_model(model)
    callback.on_train_begin()
    for epoch in range(first, epochs):
        model.steps += 10
        callback.on_epoch_end(epoch, {})
    callback.on_train_end()


def names(directory):
    return [int(path.stem[5:]) for path in training_pictures(directory / "samples")]


def test_a_picture_is_drawn_before_at_intervals_and_in_the_end(tmp_path):
    run(tmp_path, 5, every=2)
    assert names(tmp_path) == [0, 20, 40, 50]
    for path in training_pictures(tmp_path / "samples"):
        assert (np.asarray(Image.open(path)) == int(path.stem[5:])).all()
    events = EventAccumulator(str(tmp_path / "events" / "pictures"))
    events.Reload()
    assert [e.step for e in events.Images("samples")] == [0, 20, 40, 50]


def test_a_resumed_run_draws_anew_what_came_after(tmp_path):
    run(tmp_path, 5)
    run(tmp_path, 3, first=2)
    assert names(tmp_path) == [0, 10, 20, 30]
    events = EventAccumulator(str(tmp_path / "events" / "pictures"))
    events.Reload()
    assert [e.step for e in events.Images("samples")] == [0, 10, 20, 30]


def test_a_run_that_was_stopped_has_the_pictures_of_one_that_was_not(tmp_path):
    run(tmp_path, 4, every=3, last=7)
    assert names(tmp_path) == [0, 30]
    run(tmp_path, 7, first=4, every=3)
    assert names(tmp_path) == [0, 30, 60, 70]


def test_the_pictures_make_an_animation(tmp_path):
    run(tmp_path, 3)
    write_training_animation(tmp_path / "samples", tmp_path / "training.gif")
    assert Image.open(tmp_path / "training.gif").n_frames == 4

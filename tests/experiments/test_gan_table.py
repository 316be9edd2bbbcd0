"""benchmarks/gan_table.py, which runs experiments as programs."""

import json

import numpy as np
import pytest

SCRIPT = "benchmarks/gan_table.py"


def test_runs_that_are_finished_are_a_row(programs, tmp_path):
    for seed, distance in enumerate([10.0, 12.0]):
        path = tmp_path / f"wgan_digits-{seed}"
        path.mkdir()
        scores = {
            "steps": 1000,
            "frechet_distance": distance,
            "kernel_distance": 3.0,
            "precision": 0.5,
            "recall": 0.25 + seed,
            "classes_covered": 10 - seed,
            "classes_kl_divergence": 0.25 + 0.5 * seed,
        }
        (path / "evaluation.json").write_text(json.dumps(scores))
    result = programs.run(
        SCRIPT, "--types=wgan", f"--runs={tmp_path}", "--seeds=2", "--updates=1000"
    )
    assert result.status == 0, result.stderr
    header, rule, row = result.stdout.splitlines()[-3:]
    assert header.endswith("| classes | KL of the classes' shares, nats |")
    assert row == "| wgan | 1,000 | 11.0 | 1.4 | 3.00 | 0.50 | 0.75 | 9 | 0.500 |"
    assert header.count("|") == rule.count("|") == row.count("|")


def test_a_run_of_other_updates_is_refused(programs, tmp_path):
    path = tmp_path / "wgan_digits-0"
    path.mkdir()
    (path / "evaluation.json").write_text(
        '{"steps": 1004, "frechet_distance": 1.0, "kernel_distance": 1.0, '
        '"precision": 1.0, "recall": 1.0, "classes_covered": 9, '
        '"classes_kl_divergence": 0.0}'
    )
    flags = "--types=wgan", f"--runs={tmp_path}", "--updates=1000"
    result = programs.run(SCRIPT, *flags)
    assert result.status == 1
    line = result.stderr.splitlines()[-1]
    assert f"{path}: it has 1004 updates, not --updates=1000" in line


def test_a_run_that_was_begun_with_other_flags_is_refused(programs, tmp_path):
    # Not the first of the types: it is refused before any is trained.
    path = tmp_path / "wgan_digits-0"
    path.mkdir()
    (path / "flags.txt").write_text("# experiment: gan\n--seed=0\n--num_epochs=3\n")
    result = programs.run(SCRIPT, "--updates=10", f"--runs={tmp_path}")
    assert result.status == 1
    line = result.stderr.splitlines()[-1]
    assert f"{path}: it was begun with --num_epochs=3, not --num_epochs=10" in line
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("gan_type", ["dcgan", "wgan_gp"])
def test_all_types_have_the_same_number_of_updates(programs, tmp_path, gan_type):
    path = tmp_path / f"{gan_type}_digits-0"
    path.mkdir()
    flags = "# experiment: gan\n--num_epochs=10\n--steps_per_epoch=7\n"
    (path / "flags.txt").write_text(flags)
    (path / "evaluation.json").write_text("{}")
    result = programs.run(
        SCRIPT, f"--types={gan_type}", "--updates=5000", f"--runs={tmp_path}"
    )
    assert result.status == 1
    line = result.stderr.splitlines()[-1]
    assert "begun with --steps_per_epoch=7, not --steps_per_epoch=500;" in line


def test_updates_that_make_no_whole_epochs_are_one_line(programs, tmp_path):
    result = programs.run(SCRIPT, "--updates=5005", f"--runs={tmp_path}")
    assert result.status == 1
    (line,) = result.stderr.splitlines()
    assert "--updates=5005: " in line
    assert "must be a multiple of 10, the number of epochs" in line


def test_what_cannot_be_scored_is_one_line(programs, tmp_path):
    result = programs.run(SCRIPT, "--types=dcgan,gan", f"--runs={tmp_path}")
    assert result.status == 1
    (line,) = result.stderr.splitlines()
    assert "--types=gan: must be of dcgan, " in line
    unlabelled = tmp_path / "images.npz"
    images = np.zeros((200, 8, 8), np.uint8)
    labels = np.zeros(200, np.int32)
    np.savez(unlabelled, x_train=images, x_test=images, y_train=labels)
    result = programs.run(SCRIPT, f"--dataset={unlabelled}", f"--runs={tmp_path}")
    assert result.status == 1
    assert "to test on must have labels to score by" in result.stderr.splitlines()[-1]

"""benchmarks/vae_gan.py, which runs experiments as programs."""

import numpy as np
import pytest

SCRIPT = "benchmarks/vae_gan.py"


@pytest.mark.slow
def test_each_model_is_a_row_and_two_rows_of_images(programs, tmp_path):
    figure = tmp_path / "figure.png"
    result = programs.run(
        SCRIPT,
        "--num_epochs=1",
        "--gammas=0.1",
        f"--runs={tmp_path}",
        f"--cache_dir={tmp_path}",
        f"--figure={figure}",
    )
    assert result.status == 0, result.stderr
    rows = result.stdout.splitlines()[-3:]
    names = [row.split(" | ")[0] for row in rows]
    assert names == ["| VAE", "| VAE-GAN, gamma 0.1", "| images to test on"]
    assert all(row.count("|") == 7 for row in rows)
    assert figure.exists()


def test_images_without_labels_are_refused(programs, tmp_path):
    unlabelled = tmp_path / "images.npz"
    images = np.zeros((200, 8, 8), np.uint8)
    np.savez(unlabelled, x_train=images, x_test=images)
    result = programs.run(SCRIPT, f"--dataset={unlabelled}", f"--runs={tmp_path}")
    assert result.status == 1
    assert "it has no labels to score by" in result.stderr.splitlines()[-1]

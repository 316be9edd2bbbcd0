"""benchmarks/vae_gan.py, which scores what experiments have exported."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.datasets import load_images

SCRIPT = "benchmarks/vae_gan.py"


class Served(tf.Module):
    """Rebuilds images, by default as they are, and draws black ones."""

    def __init__(self, share=1.0):
        self.share = share

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1], name="images")])
    def reconstruct(self, images):
        return {"images": self.share * images}

    @tf.function(
        input_signature=[
            tf.TensorSpec([], tf.int32, "num"),
            tf.TensorSpec([2], tf.int32, "seed"),
        ]
    )
    def sample(self, num, seed):
        return {"images": tf.zeros([num, 8, 8, 1])}


def finished(path, module):
    """Makes a run directory."""
    signatures = {"reconstruct": module.reconstruct, "sample": module.sample}
    tf.saved_model.save(module, str(path / "saved_model"), signatures)
    (path / "evaluation.json").write_text("{}")


def test_each_score_stands_in_its_column(programs, tmp_path):
    for name in ("vae_conv_digits-0", "vae_gan_0.1_digits-0"):
        finished(tmp_path / name, Served())
    figure = tmp_path / "figure.png"
    flags = "--gammas=0.1", f"--runs={tmp_path}", f"--figure={figure}"
    result = programs.run(SCRIPT, *flags, f"--cache_dir={tmp_path}")
    assert result.status == 0, result.stderr
    *rows, last = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in result.stdout.splitlines()[-3:]
    )
    assert [row[0] for row in rows] == ["VAE", "VAE-GAN, gamma 0.1"]
    assert last[0] == "images to test on"
    of_data = last[1]
    assert float(of_data) > 0
    for _, sharp, rebuilt_sharp, distance, rebuilt_distance, error in rows:
        assert (sharp, rebuilt_sharp) == ("0.000", of_data)
        assert abs(float(rebuilt_distance)) < 0.05 < float(distance)
        assert error == "0.0000"
    assert figure.exists()


def test_several_seeds_have_a_mean_and_a_standard_deviation(programs, tmp_path):
    finished(tmp_path / "vae_conv_digits-0", Served())
    finished(tmp_path / "vae_conv_digits-1", Served(0.0))
    flags = "--gammas=", "--seeds=2", f"--runs={tmp_path}", f"--cache_dir={tmp_path}"
    result = programs.run(SCRIPT, *flags)
    assert result.status == 0, result.stderr
    row, _ = (line.split(" | ") for line in result.stdout.splitlines()[-2:])
    assert row[0] == "| VAE"
    assert row[1] == "0.000 +- 0.000"
    # Of black images each squared error is the square of the brightness.
    images = load_images("digits").test.images / 255.0
    error = np.mean(np.square(images))
    expected = f"{error / 2:.4f} +- {error / np.sqrt(2):.4f} |"
    assert row[-1] == expected


@pytest.mark.slow
def test_models_that_are_missing_are_trained(programs, tmp_path):
    flags = "--num_epochs=1", "--gammas=0.1", f"--runs={tmp_path}"
    result = programs.run(SCRIPT, *flags, f"--cache_dir={tmp_path}")
    assert result.status == 0, result.stderr
    for name in ("vae_conv_digits-0", "vae_gan_0.1_digits-0"):
        assert (tmp_path / name / "evaluation.json").exists()

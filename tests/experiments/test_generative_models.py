"""The binaries of the generative models, run as a user runs them."""

import json
import signal

import numpy as np
import pytest
from PIL import Image

from tests.experiments.test_policy_gradients import metrics
from tests.metrics.test_inception import graph_of_2015
from tests.programs import signal_when
from tests.training.test_resumable_run import reproducible

SMALL = {
    "vae": (
        "--hidden_units=8",
        "--latent_size=2",
        "--importance_samples=3",
        "--batch_size=200",
    ),
    "made": ("--hidden_units=16", "--batch_size=200"),
    "draw": (
        "--hidden_units=8",
        "--latent_size=2",
        "--num_glimpses=3",
        "--read_size=2",
        "--write_size=3",
        "--importance_samples=2",
        "--batch_size=400",
        "--jit_compile=false",
    ),
    "gan": ("--base_channels=4", "--batch_size=32", "--num_scored=0"),
    "vae_gan": ("--hidden_units=4,4", "--latent_size=2", "--batch_size=200"),
}
# Pictures of a kind of model.
PICTURES = {
    "vae": ("reconstructions.png", "traversals.png", "interpolation.gif"),
    "vae_gan": ("reconstructions.png", "manifold.png"),
    "draw": ("reconstructing.gif", "sampling.png"),
    "gan": ("sweeps.png", "interpolation.gif"),
    "made": (),
}


def train(programs, name, run_dir, *flags, num_epochs=2, **arguments):
    return programs.run(
        f"experiments/{name}.py",
        *SMALL[name],
        f"--run_dir={run_dir}",
        f"--num_epochs={num_epochs}",
        *flags,
        **arguments,
    )


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    """Where a classifier of the digits is kept, trained once."""
    return tmp_path_factory.mktemp("classifiers")


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("vae", ()),
        (
            "vae",
            (
                "--network=conv",
                "--distribution=discretized_logistic",
                "--binarize=none",
                "--mixed_precision",
                "--noanimation",
                "--anneal",
            ),
        ),
        ("made", ("--num_orders=2", "--levels=3", "--binarize=none")),
        ("draw", ()),
        pytest.param(
            "draw",
            ("--read_size=0", "--write_size=0", "--noanimation"),
            marks=pytest.mark.slow,
        ),
        ("gan", ("--gan=dcgan", "--minibatch_kernels=3")),
        (
            "gan",
            ("--gan=wgan_gp", "--conditional", "--num_scored=200", "--noanimation"),
        ),
        pytest.param(
            "gan",
            ("--gan=began", "--gamma=0.7", "--noanimation"),
            marks=pytest.mark.slow,
        ),
        (
            "gan",
            ("--gan=infogan", "--information_weight=0.5", "--num_scored=200"),
        ),
        pytest.param("gan", ("--gan=infogan", "--noanimation"), marks=pytest.mark.slow),
        ("vae_gan", ()),
    ],
)
def test_runs_leave_scores_pictures_and_a_model_that_draws(
    programs, tmp_path, cache_dir, name, flags
):
    run_dir = tmp_path / "run"
    if "--num_scored=200" in flags:
        flags += (f"--cache_dir={cache_dir}",)
    result = train(programs, name, run_dir, *flags)
    assert result.status == 0, result.stderr
    rows = metrics(run_dir)
    steps = int(rows[-1]["steps"])
    assert len(rows) == 2
    scores = json.loads((run_dir / "evaluation.json").read_text())
    assert scores["steps"] == steps
    numbers = [value for value in scores.values() if isinstance(value, float)]
    assert np.isfinite(numbers).all()
    assert numbers or name == "gan"
    if "--num_scored=200" in flags:
        assert scores["features"] == "tfzoo classifier of digits"
        assert (scores["split"], scores["num_samples"]) == ("test", 360)
        assert float(rows[-1]["frechet_distance"]) > 0
    if "--gan=infogan" in flags:
        assert (scores["code_split"], scores["code_num_images"]) == ("test", 360)
        for key in ("code_accuracy", "code_purity"):
            assert float(rows[-1][key]) == scores[key] > 0.1
        weight = 0.5 if "--information_weight=0.5" in flags else 0.1
        assert scores["information_weight"] == weight
    if "--conditional" in flags:
        assert 0 <= scores["label_accuracy"] <= 1
    if "--gan=began" in flags:
        assert scores["gamma"] == 0.7
    if name == "vae_gan":
        assert scores["sharpness_num_samples"] == 1000
        assert scores["sharpness_num_real"] == 360
    samples = sorted(path.name for path in (run_dir / "samples").iterdir())
    assert samples == [f"step-{n:012d}.png" for n in (0, steps // 2, steps)]
    first, last = (
        np.asarray(Image.open(run_dir / "samples" / samples[i])) for i in (0, -1)
    )
    # Ten columns, where there is one for each class.
    num_columns = 10 if {"--conditional", "--gan=infogan"} & set(flags) else 8
    assert first.shape == last.shape == (8 * 50 + 2, num_columns * 50 + 2, 3)
    assert (first != last).any()
    of_began = ("convergence.png",) * ("--gan=began" in flags)
    for picture in ("learning_curve.png", *of_began, *PICTURES[name]):
        with Image.open(run_dir / picture) as opened:
            opened.verify()
    if name == "draw":
        assert (run_dir / "reading.gif").exists() == ("--read_size=0" not in flags)
    if "--noanimation" not in flags:
        assert Image.open(run_dir / "training.gif").n_frames == 3
    picture = tmp_path / "drawn.png"
    drawn = programs.run(
        "experiments/sample.py", f"--model={run_dir}", "--num=9", f"--output={picture}"
    )
    assert drawn.status == 0, drawn.stderr
    assert "9 images of [8, 8, 1]" in drawn.stdout
    assert np.asarray(Image.open(picture)).shape == (152, 152, 3)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("vae", ("--binarize=dynamic", "--anneal", "--pictures_every=1")),
        ("vae_gan", ("--checkpoint_every=2", "--pictures_every=1")),
        ("gan", ("--num_scored=20", "--checkpoint_every=2", "--pictures_every=1")),
    ],
)
def test_a_killed_run_resumes_as_if_nothing_had_happened(
    programs, tmp_path, cache_dir, name, flags
):
    if name == "gan":
        flags += (f"--cache_dir={cache_dir}",)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(programs, name, whole, *flags, num_epochs=4)

    kill = signal_when(lambda: len(list((killed / "samples").glob("step-*"))) >= 3)
    result = train(programs, name, killed, *flags, num_epochs=4, meanwhile=kill)
    assert result.status == -signal.SIGKILL
    resumed = programs.run(f"experiments/{name}.py", "--resume", f"--run_dir={killed}")
    assert resumed.status == 0, resumed.stderr
    assert "resuming" in resumed.stdout
    assert reproducible(killed / "metrics.csv") == reproducible(whole / "metrics.csv")
    for path in sorted((whole / "samples").iterdir()):
        assert path.read_bytes() == (killed / "samples" / path.name).read_bytes()
    scores = [
        json.loads((run / "evaluation.json").read_text()) for run in (whole, killed)
    ]
    assert scores[0] == scores[1]


def test_classes_of_stacked_digits_are_counted(programs, tmp_path, cache_dir):
    run_dir = tmp_path / "run"
    flags = ("--stacked", "--steps_per_epoch=5", "--num_scored=10", "--noanimation")
    result = train(programs, "gan", run_dir, *flags, f"--cache_dir={cache_dir}")
    assert result.status == 0, result.stderr
    scores = json.loads((run_dir / "evaluation.json").read_text())
    assert scores["num_samples"] == 26_000
    assert 1 <= scores["num_covered"] <= 1000
    assert 0 < scores["kl_divergence"] <= np.log(1000)
    assert scores["num_covered_of_data"] > 950
    assert scores["split"] == "test"
    assert scores["features"] == "tfzoo classifier of digits"
    assert len(scores["features_hash"]) == 16
    assert scores["features_accuracy"] > 0.9
    assert scores["resizer"] == "none"
    # Of ten samples in each epoch.
    rows = metrics(run_dir)
    assert len(rows) == 2
    for row in rows:
        assert 1 <= float(row["num_covered"]) <= 10
        assert np.log(100) - 1e-4 <= float(row["kl_divergence"]) <= np.log(1001)


def test_inception_scores_samples_of_images_without_labels(programs, tmp_path):
    images = np.random.default_rng(0).integers(256, size=(60, 8, 8), dtype=np.uint8)
    dataset = tmp_path / "images.npz"
    np.savez(dataset, x_train=images, x_test=images[:40])
    graph = tmp_path / "classify_image_graph_def.pb"
    graph.write_bytes(graph_of_2015(np.eye(3, dtype=np.float32)))
    run_dir = tmp_path / "run"
    flags = (f"--dataset={dataset}", f"--inception={graph}", "--noanimation")
    result = train(programs, "gan", run_dir, *flags, num_epochs=1)
    assert result.status == 0, result.stderr
    summary = json.loads((run_dir / "evaluation.json").read_text())
    assert "frechet_distance" not in summary
    scores = summary["inception"]
    assert scores["FID"] > 0
    assert {"KID", "IS", "precision", "features_hash"} < scores.keys()
    record = {
        "split": "test",
        "num_samples": 40,
        "num_real": 40,
        "num_splits": 1,
        "features": "Inception of 2015-12-05",
        "resizer": "bilinear of TensorFlow 1",
    }
    assert {name: scores[name] for name in record} == record


@pytest.mark.parametrize("name", ["vae", "vae_gan", "gan"])
def test_batches_are_split_over_two_devices(programs, tmp_path, name):
    result = train(programs, name, tmp_path / "run", "--distribute=mirrored", devices=2)
    assert result.status == 0, result.stderr
    assert "batches are split over 2 devices" in result.stdout


def test_a_batch_that_cannot_be_split_evenly_is_one_line(programs, tmp_path):
    flags = "--distribute=mirrored", "--batch_size=201"
    result = train(programs, "vae", tmp_path / "run", *flags, devices=2)
    assert result.status == 1
    line = result.stderr.splitlines()[-1]
    assert "--batch_size=201: must be divisible by 2, the devices of --dist" in line
    assert not (tmp_path / "run").exists()


def test_too_few_images_to_score_by_are_named_before_training(programs, tmp_path):
    images = np.zeros((40, 8, 8), np.uint8)
    dataset = tmp_path / "images.npz"
    labels = np.arange(40) % 2
    np.savez(
        dataset, x_train=images, x_test=images[:3], y_train=labels, y_test=labels[:3]
    )
    flags = f"--dataset={dataset}", "--num_scored=10"
    result = train(programs, "gan", tmp_path / "run", *flags)
    assert result.status == 1
    line = result.stderr.splitlines()[-1]
    assert "has 3 images to test on, and scores need at least 4; give more" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("vae", ("--dataset=mnits",), "mnist"),
        ("vae", ("--batch_size=2000",), "a batch of 2000 cannot be made of the 1437"),
        ("vae", ("--hidden_units=8,x",), "must be positive integers"),
        ("vae", ("--network=conv", "--hidden_units=8,8,8,8"), "be halved 4 times"),
        ("vae", ("--beta=-1",), "must be finite and not negative"),
        ("vae", ("--image_size=0",), "image_size"),
        ("vae", ("--distribution=gaussian",), "give --binarize=none"),
        ("draw", ("--distribution=gaussian",), "give --binarize=none"),
        ("made", ("--levels=4",), "give --binarize=none"),
        ("gan", ("--image_size=30",), "divisible by 4, got 30x30"),
        ("gan", ("--gan=infogan", "--conditional"), "finds classes by itself"),
        ("gan", ("--gan=wgan_gp", "--batch_size=500"), "takes 2500 images"),
        ("gan", ("--gamma=0.5",), "--gamma is for --gan=began, got dcgan"),
        ("gan", ("--information_weight=1",), "is for --gan=infogan, got dcgan"),
        ("gan", ("--num_scored=3",), "must be 0 or at least 10"),
        ("gan", ("--stacked", "--conditional"), "classes that nobody asked"),
        ("gan", ("--stacked", "--channels=3"), "images must be [N, H, W, 1]"),
        ("gan", ("--inception=no/graph.pb",), "no/graph.pb: there is no such file"),
        ("gan", ("--inception=a.pt",), "a.pt: must be the path of classify_image_"),
        ("vae_gan", ("--gamma=-1",), "must be finite and not negative"),
    ],
)
def test_wrong_flags_end_with_one_line(programs, tmp_path, name, flags, message):
    result = train(programs, name, tmp_path / "run", *flags)
    assert result.status == 1
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_drawn_from_is_refused(programs, tmp_path):
    nothing = programs.run("experiments/sample.py", f"--model={tmp_path}")
    assert nothing.status == 1
    assert "there is no SavedModel" in nothing.stderr
    wrong = programs.run(
        "experiments/sample.py", f"--model={tmp_path}", "--output=samples.txt"
    )
    assert "must end in .png or .jpg" in wrong.stderr


def test_the_ladder_leaves_its_four_rungs(programs, tmp_path):
    run_dir = tmp_path / "run"
    result = programs.run(
        "experiments/autoencoder_ladder.py",
        f"--run_dir={run_dir}",
        "--num_epochs=2",
        "--memory_steps=100",
    )
    assert result.status == 0, result.stderr
    nats = json.loads((run_dir / "evaluation.json").read_text())
    assert list(nats) == ["1 one image", "2 one code each", "3 autoencoder", "4 VAE"]
    # It has memorised the image; two epochs teach the others little.
    assert nats["1 one image"] < 1 < nats["4 VAE"]
    for name in ("ladder", "rung_1", "rung_2", "rung_3", "rung_4"):
        with Image.open(run_dir / f"{name}.png") as picture:
            picture.verify()

"""The binaries of the generative models, run as a user runs them."""

import json
import signal

import numpy as np
import pytest
from PIL import Image

from tests.experiments.test_policy_gradients import metrics
from tests.programs import signal_when
from tests.training.test_resumable_run import reproducible

SMALL = {
    "vae": (
        "--hidden_units=8",
        "--latent_size=2",
        "--importance_samples=3",
        "--batch_size=200",
    ),
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
    ],
)
def test_runs_leave_scores_pictures_and_a_model_that_draws(
    programs, tmp_path, name, flags
):
    run_dir = tmp_path / "run"
    result = train(programs, name, run_dir, *flags)
    assert result.status == 0, result.stderr
    rows = metrics(run_dir)
    steps = int(rows[-1]["steps"])
    assert len(rows) == 2
    scores = json.loads((run_dir / "evaluation.json").read_text())
    assert scores["steps"] == steps
    assert all(np.isfinite(value) for value in list(scores.values())[1:])
    samples = sorted(path.name for path in (run_dir / "samples").iterdir())
    assert samples == [f"step-{n:012d}.png" for n in (0, steps // 2, steps)]
    first, last = (
        np.asarray(Image.open(run_dir / "samples" / samples[i])) for i in (0, -1)
    )
    assert first.shape == last.shape == (8 * 50 + 2, 8 * 50 + 2, 3)
    assert (first != last).any()
    with Image.open(run_dir / "learning_curve.png") as curve:
        curve.verify()
    if "--noanimation" not in flags:
        assert Image.open(run_dir / "training.gif").n_frames == 3
    picture = tmp_path / "drawn.png"
    drawn = programs.run(
        "experiments/sample.py", f"--model={run_dir}", "--num=9", f"--output={picture}"
    )
    assert drawn.status == 0, drawn.stderr
    assert "9 images of [8, 8, 1]" in drawn.stdout
    assert np.asarray(Image.open(picture)).shape == (152, 152, 3)


@pytest.mark.parametrize("name", SMALL)
def test_a_killed_run_resumes_as_if_nothing_had_happened(programs, tmp_path, name):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(programs, name, whole, num_epochs=4)

    kill = signal_when(lambda: len(list((killed / "samples").glob("step-*"))) >= 3)
    result = train(programs, name, killed, num_epochs=4, meanwhile=kill)
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


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--dataset=mnits",), "mnist"),
        (("--batch_size=2000",), "a batch of 2000 cannot be made of the 1437 images"),
        (("--hidden_units=8,x",), "must be positive integers"),
        (("--network=conv", "--hidden_units=8,8,8,8"), "cannot be halved 4 times"),
        (("--beta=-1",), "must be finite and not negative"),
        (("--image_size=0",), "image_size"),
    ],
)
def test_wrong_flags_end_with_one_line(programs, tmp_path, flags, message):
    result = train(programs, "vae", tmp_path / "run", *flags)
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

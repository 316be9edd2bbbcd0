"""The guides run as they stand, and reach the results that they state.

The code blocks of a guide, put together, are a program. A constant that it assigns at
the start of a line, such as NUM_UPDATES, can be given another value here.
"""

import pathlib
import re
import runpy

import numpy as np
import pytest

GUIDES = pathlib.Path(__file__).parents[2] / "docs" / "guides"
# What these show, other tests hold against references.
SLOW = ("curvature", "layer_transforms")
NAMES = sorted(path.stem for path in GUIDES.glob("*.md") if path.stem != "README")


def run_guide(name, tmp_path, **constants):
    """Runs the program of a guide and returns its global variables."""
    text = (GUIDES / f"{name}.md").read_text("utf8")
    program = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    for constant, value in constants.items():
        program, count = re.subn(
            rf"^{constant} = .*$", f"{constant} = {value}", program, flags=re.MULTILINE
        )
        assert count == 1, f"{name}.md must assign {constant} once"
    path = tmp_path / f"{name}.py"
    path.write_text(program, "utf8")
    return runpy.run_path(str(path))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in NAMES
    ],
)
def test_guide_runs(name, tmp_path):
    names = run_guide(name, tmp_path, NUM_UPDATES=2)
    assert all(np.all(np.isfinite(weight)) for weight in names["model"].get_weights())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mean_return"),
    [
        ("policy_gradient_in_fit", 475.0),
        ("a2c_normal_head", 90.0),
        ("discrete_ppo", 475.0),
    ],
)
def test_guide_reaches_its_result(name, mean_return, tmp_path):
    names = run_guide(name, tmp_path)
    assert np.mean(names["evaluation_returns"]) >= mean_return


@pytest.mark.slow
def test_the_guide_to_curvature_measures_what_is_there(tmp_path):
    names = run_guide("curvature", tmp_path)
    exact = names["exact_eigenvalues"]
    np.testing.assert_allclose(names["top"].eigenvalues[0], exact[-1], rtol=0.01)
    trace = names["trace"]
    error = abs(float(trace.mean) - np.trace(names["hessian"]))
    assert error < 4 * float(trace.standard_error)
    assert names["share"] == pytest.approx(names["exact_share"], abs=0.03)

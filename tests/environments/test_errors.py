"""Errors are caught by those who know only Python's own."""

import numpy as np
import pytest

from tfzoo.environments import (
    MissingPackageError,
    UnknownEnvironmentError,
    UnsupportedSpaceError,
)
from tfzoo.environments.errors import check_positive_integer


def test_kinds():
    assert issubclass(UnknownEnvironmentError, ValueError)
    assert issubclass(UnsupportedSpaceError, ValueError)
    assert issubclass(MissingPackageError, ImportError)


@pytest.mark.parametrize("value", [1, 10**9, np.int64(3)])
def test_positive_integers_pass(value):
    check_positive_integer("number", value)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "3", None])
def test_others_do_not(value):
    with pytest.raises(ValueError, match=r"^number must be a positive integer, got"):
        check_positive_integer("number", value)

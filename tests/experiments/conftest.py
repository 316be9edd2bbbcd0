from tests.training.conftest import programs

__all__ = ["programs"]

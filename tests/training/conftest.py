import pytest

from tests.training.programs import Programs


@pytest.fixture(scope="session")
def programs():
    server = Programs()
    yield server
    server.close()

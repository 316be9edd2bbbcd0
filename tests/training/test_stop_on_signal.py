import os
import signal
import threading

import pytest

from tests.training.fake_agent import FakeAgent
from tfzoo.training import StopOnSignal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_epoch_is_finished(number, capsys):
    def interrupt(steps):
        if steps == 20:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    agent = FakeAgent(on_epoch=interrupt)
    agent.prepare(None)
    with StopOnSignal() as stop:
        history = agent.fit(None, 100, callbacks=[stop])
        assert signal.getsignal(number) is before
    assert stop.received == number
    assert history.history["steps"] == [10, 20, 30]
    assert "finishing the epoch" in capsys.readouterr().err


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopOnSignal():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture
def usual_interrupt():
    """The handler of a program in the foreground; one in the background has none."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_signal_has_its_usual_effect(usual_interrupt):
    with StopOnSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_other_threads_train_without_it():
    def train():
        with StopOnSignal() as stop:
            agent = FakeAgent()
            agent.prepare(None)
            done.append(agent.fit(None, 20, callbacks=[stop]))

    done = []
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert done

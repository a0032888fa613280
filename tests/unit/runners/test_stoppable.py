import signal

import pytest

from distkeras.errors import InterruptedRunError, PreemptedError
from distkeras.runners.stoppable import stoppable


@pytest.mark.parametrize(
    ("number", "error", "name"),
    [(signal.SIGINT, InterruptedRunError, "Ctrl-C"), (signal.SIGTERM, PreemptedError, "SIGTERM")],
)
def test_a_signal_becomes_an_error_that_says_how_to_go_on(number, error, name):
    before = signal.getsignal(number)
    with pytest.raises(error, match=f"{name} came outside of training") as caught, stoppable():
        signal.raise_signal(number)
    assert caught.value.remedy.startswith("resume with: ")
    assert signal.getsignal(number) is before


def test_code_that_catches_every_exception_does_not_swallow_it():
    def import_something():
        try:
            signal.raise_signal(signal.SIGINT)
        except Exception:
            return

    with pytest.raises(InterruptedRunError), stoppable():
        import_something()


def test_without_a_signal_nothing_happens():
    before = signal.getsignal(signal.SIGTERM)
    with stoppable():
        pass
    assert signal.getsignal(signal.SIGTERM) is before

import keras
import tensorflow as tf

from tfzoo.training import describe_devices


def test_one_line_says_what_a_run_computes_on():
    text = describe_devices()
    assert "\n" not in text
    assert tf.__version__ in text
    assert keras.__version__ in text
    assert ("no GPU" in text) == (not tf.config.list_physical_devices("GPU"))
    assert "intra-op threads" in text

"""What a run computes on."""

import os
import platform

import keras
import tensorflow as tf


def describe_devices():
    """Returns versions, devices and threads in one line.

    TensorFlow starts its devices for it: set the number of threads before.
    """
    build = tf.sysconfig.get_build_info()
    names = [
        tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    cuda = "built without CUDA"
    if build.get("is_cuda_build"):
        cuda = f"CUDA {build['cuda_version']}, cuDNN {build['cudnn_version']}"
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    return (
        f"TensorFlow {tf.__version__} ({cuda}), Keras {keras.__version__}, Python "
        f"{platform.python_version()}; {', '.join(names) or 'no GPU'}; "
        f"{_num_cores()} CPU cores, intra-op threads: {threads or 'automatic'}"
    )


def _num_cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()

"""What a run computes on."""

import contextlib
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


def distribution_scope(distribute, split):
    """Returns the scope that --distribute asks for, to make a model in.

    Args:
      distribute: "none" or "mirrored".
      split: what is split over the devices, for the message that tells of it.
    """
    if distribute == "none":
        return contextlib.nullcontext()
    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        print("--distribute=mirrored: there is one device only; nothing to split")
        return contextlib.nullcontext()
    print(f"--distribute=mirrored: {split} are split over {len(devices)} devices")
    return tf.distribute.MirroredStrategy([device.name for device in devices]).scope()


def _num_cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()

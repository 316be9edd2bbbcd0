"""Data: tensorflow-datasets, folders and arrays of images, as `tf.data`."""

from tfzoo.datasets.errors import DatasetError
from tfzoo.datasets.image_dataset import ImageDataset, ImageSplit
from tfzoo.datasets.image_sources import load_images

__all__ = ["DatasetError", "ImageDataset", "ImageSplit", "load_images"]

"""What is raised where data is not what it should be."""


class DatasetError(ValueError):
    """A data set that cannot be found, read or used as asked; one line says why."""

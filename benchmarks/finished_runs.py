"""Keeping what a run measured, so that a benchmark that was ended goes on."""

import json
import os
import pathlib


def finished(path, run):
    """Returns what a run measured, from its file if it is finished already.

    A file is not looked into: where settings change, its folder is to be emptied or
    another one named.

    Args:
      path: of the file, which is written when the run is finished.
      run: a function without arguments to what JSON can hold.
    """
    path = pathlib.Path(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        result = run()
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(result) + "\n", "utf8")
        os.replace(unfinished, path)
    return json.loads(path.read_text("utf8"))

import os

import pytest

from tfzoo.training import atomic_files


def write_folder(path, text):
    with atomic_files.replacing(path) as unfinished:
        unfinished.mkdir()
        (unfinished / "below").mkdir()
        for name in ("one", "below/two"):
            (unfinished / name).write_text(text)


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with atomic_files.replacing(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
        assert unfinished.suffix == ".txt"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_an_error_leaves_the_old_file(tmp_path):
    def write_half(path):
        with atomic_files.replacing(path) as unfinished:
            unfinished.write_text("half")
            raise RuntimeError("disk")

    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk"):
        write_half(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path):
    left = tmp_path / ".unfinished.folder"
    left.mkdir()
    (left / "rest").write_text("half")
    write_folder(tmp_path / "folder", "whole")
    assert sorted(os.listdir(tmp_path)) == ["folder"]
    assert sorted(os.listdir(tmp_path / "folder")) == ["below", "one"]


def test_a_folder_takes_the_place_of_a_folder(tmp_path):
    write_folder(tmp_path / "folder", "old")
    (tmp_path / "folder" / "of old").touch()
    write_folder(tmp_path / "folder", "new")
    assert sorted(os.listdir(tmp_path / "folder")) == ["below", "one"]
    assert (tmp_path / "folder" / "one").read_text() == "new"


def test_a_file_and_a_folder_do_not_take_each_others_place(tmp_path):
    def write_file(path):
        with atomic_files.replacing(path) as unfinished:
            unfinished.write_text("new")

    write_folder(tmp_path / "folder", "old")
    write_file(tmp_path / "file")
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path / "folder")
    with pytest.raises(NotADirectoryError):
        write_folder(tmp_path / "file", "newer")
    assert (tmp_path / "folder" / "below" / "two").read_text() == "old"
    assert (tmp_path / "file").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_data_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    calls, names = [], {}
    open_, fsync, replace = os.open, os.fsync, os.replace

    def recorded_open(path, *arguments, **keywords):
        descriptor = open_(path, *arguments, **keywords)
        names[descriptor] = os.path.basename(path)
        return descriptor

    def recorded_fsync(descriptor):
        calls.append(names[descriptor])
        fsync(descriptor)

    def recorded_replace(*paths):
        calls.append("rename")
        replace(*paths)

    monkeypatch.setattr(os, "open", recorded_open)
    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    write_folder(tmp_path / "folder", "whole")
    assert sorted(calls[:3]) == ["below", "one", "two"]
    assert calls[3:] == [".unfinished.folder", "rename", tmp_path.name]

"""Files are written whole or not at all, and what cannot be written is found out before the work."""
import errno
import os
import resource

import pytest

from util.failure import Failure
from util.files import check_writable, make_folder, write_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # bytes
        with pytest.raises(Failure, match=f"^cannot write '{path}': File too large$"):
            write_whole(str(path), lambda file: file.write(bytes(2000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_two_runs_that_write_the_same_file_at_once_do_not_mix(tmp_path):
    path = str(tmp_path / "file")

    def write_inner_then_outer(file):
        file.write(b"outer")
        write_whole(path, lambda inner: inner.write(b"inner"))
        assert (tmp_path / "file").read_bytes() == b"inner"

    write_whole(path, write_inner_then_outer)
    assert (tmp_path / "file").read_bytes() == b"outer"
    assert names(tmp_path) == ["file"]


def test_a_new_file_may_be_read_by_whom_the_user_allows(tmp_path):
    mask = os.umask(0o022)
    try:
        write_whole(str(tmp_path / "file"), lambda file: file.write(b"new"))
    finally:
        os.umask(mask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("replaceable", [True, False])
def test_a_link_leads_to_the_new_file_even_if_that_is_mounted(tmp_path, monkeypatch, replaceable):
    """A file that is mounted into a container cannot be replaced, but its content can."""
    def fail(*_, **__):
        raise OSError(errno.EBUSY, "Device or resource busy")

    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")
    (tmp_path / "there" / "file").write_bytes(b"old content")
    if not replaceable:
        monkeypatch.setattr(os, "rename", fail)
    write_whole(str(tmp_path / "link"), lambda file: file.write(b"new"))
    assert (tmp_path / "link").is_symlink() and (tmp_path / "link").read_bytes() == b"new"
    assert names(tmp_path / "there") == ["file"]


def test_what_cannot_be_written_is_found_out_before(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "nowhere").symlink_to("missing/file")
    (tmp_path / "good").write_bytes(b"old")
    longest = "x" * 255  # bytes, the most that a name may have
    for name in "good", "new", longest:
        check_writable(str(tmp_path / name))
    for name in "folder", "fifo", "nowhere", "missing/file", longest + "x":
        with pytest.raises(Failure, match=f"'{tmp_path / name}'"):
            check_writable(str(tmp_path / name))
    assert names(tmp_path) == ["fifo", "folder", "good", "nowhere"] and (tmp_path / "good").read_bytes() == b"old"


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="the system has no folder in which nobody can make a file")
def test_a_folder_that_takes_no_files_is_found_out_before_even_by_root():
    with pytest.raises(Failure, match="^cannot write '/proc/loss.png': "):
        check_writable("/proc/loss.png")
    with pytest.raises(Failure, match="^--save: cannot write into '/proc': "):
        make_folder("/proc", "--save")


def test_a_folder_is_made_unless_it_exists(tmp_path):
    for _ in range(2):
        make_folder(str(tmp_path / "new" / "folder"), "--save")
    assert names(tmp_path / "new" / "folder") == []


def test_a_folder_below_a_file_is_refused_by_the_option(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match=f"^--save: cannot write into '{tmp_path}/file/sub': Not a directory$"):
        make_folder(str(tmp_path / "file" / "sub"), "--save")

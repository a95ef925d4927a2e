"""Files are written whole or not at all, and what cannot be written is found out before the work."""
import os

import pytest

from tests.helpers import full_disk
from util.failure import Failure
from util.files import check_writable, write_whole


@pytest.fixture
def path(tmp_path):
    """A file that holds something."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


def test_a_full_disk_leaves_the_old_file(path):
    with full_disk(room=1000), pytest.raises(Failure, match=f"^cannot write '{path}': File too large$"):
        write_whole(str(path), lambda file: file.write(bytes(2000)))
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["file"]


def test_two_runs_that_write_the_same_file_at_once_do_not_mix(path):
    def write_outer(file):
        file.write(b"outer")
        write_whole(str(path), lambda inner: inner.write(b"inner"))
        assert path.read_bytes() == b"inner"

    write_whole(str(path), write_outer)
    assert path.read_bytes() == b"outer"


def test_a_new_file_may_be_read_by_whom_the_user_allows(path):
    new = path.with_name("new")
    write_whole(str(new), lambda file: file.write(b"new"))
    assert new.stat().st_mode == path.stat().st_mode


def test_a_link_leads_to_the_new_file(path, tmp_path_factory):
    link = tmp_path_factory.mktemp("other") / "link"
    link.symlink_to(path)
    write_whole(str(link), lambda file: file.write(b"new"))
    assert link.is_symlink() and path.read_bytes() == b"new"


def test_what_can_be_written_is_left_as_it_is_until_then(path):
    longest = "x" * 255  # bytes, the most that a name may have
    for name in "file", "new", longest:
        check_writable(str(path.with_name(name)))
    assert os.listdir(path.parent) == ["file"] and path.read_bytes() == b"old"


def test_what_is_no_file_is_not_written_over(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for special in tmp_path, tmp_path / "fifo":
        with pytest.raises(Failure, match=f"^'{special}' is not a regular file that can be written$"):
            check_writable(str(special))

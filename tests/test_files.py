"""Result files are written whole or not at all, and what cannot be written is found out before."""
import os
import stat

import pytest

from util.errors import UsageError
from util.files import check_writable, whole_file


def test_file_is_replaced(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with whole_file(str(path)) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error):
        with whole_file(str(path)) as file:
            file.write(b"ne")
            raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with whole_file(str(tmp_path / "whole")):
        pass
    assert stat.S_IMODE((tmp_path / "whole").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_symbolic_link_stays_one(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with whole_file(str(tmp_path / "link")) as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_writable_file_passes_and_is_left_alone(tmp_path):
    path = tmp_path / "file"
    check_writable("--option", str(path))
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"old")
    check_writable("--option", str(path))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folder(tmp_path):
    with pytest.raises(UsageError, match="argument --option: cannot write .*No such file or directory"):
        check_writable("--option", str(tmp_path / "missing" / "file"))


def test_folder_instead_of_file(tmp_path):
    with pytest.raises(UsageError, match="it is a folder"):
        check_writable("--option", str(tmp_path))


def test_write_protection(tmp_path, monkeypatch):
    """Simulated, since nothing is write-protected for the root user."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match="write-protected"):
        check_writable("--option", str(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="the root user may write everywhere")
def test_protected_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="Permission denied"):
        check_writable("--option", str(tmp_path / "file"))

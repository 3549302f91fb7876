# SPDX-License-Identifier: MIT
import errno
import os
import resource

import pytest

from refhv import files


@pytest.fixture
def hardly_any_room():
    """Files of this process may not grow beyond 100 bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_does_not_fit_leaves_the_one_before(tmp_path, hardly_any_room):
    path = tmp_path / "a"
    files.write_whole(path, "one")
    with pytest.raises(OSError) as error:
        files.write_whole(path, "x" * 1000)
    assert files.told(error.value) == f"{path}: File too large; raise the limit of a file's size (ulimit -f)"
    assert path.read_text() == "one" and [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOTDIR])
def test_every_error_names_its_path_and_a_mend(number, tmp_path):
    with pytest.raises(OSError) as error, files.named(tmp_path):
        raise OSError(number, os.strerror(number))
    told = files.told(error.value)
    assert told.startswith(f"{tmp_path}: {os.strerror(number)}; ") and "\n" not in told


def test_a_folder_is_tried_and_not_left(tmp_path):
    files.expect_folder(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "below", files.Path("/proc/nosuch")):
        with pytest.raises(OSError) as error:
            files.expect_folder(bad)
        assert error.value.filename in (str(bad), str(tmp_path / "file"))

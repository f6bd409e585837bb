"""Text files that are replaced as a whole."""

from __future__ import annotations

import pytest

from csp_engine.files import write_whole


def test_a_text_is_written_as_it_is_and_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    write_whole(path, "old é\r\n")
    assert path.read_bytes() == "old é\r\n".encode()
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new" * 100_000 + "\ud800")  # stops when much of it is written
    assert path.read_bytes() == "old é\r\n".encode()
    write_whole(path, "new\n")
    assert path.read_bytes() == b"new\n"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]

"""The script that takes README's pictures runs, and takes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("pictures.py")
PNG = b"\x89PNG\r\n\x1a\n"


def test_the_pictures_can_be_taken_again(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(picture.name for picture in tmp_path.iterdir()) == ["list.png", "session.png"]
    for picture in tmp_path.iterdir():
        assert picture.read_bytes().startswith(PNG)
        assert picture.stat().st_size > 20_000, "a page that shows something"

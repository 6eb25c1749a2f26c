"""The Python of the guide runs, and prints what the guide says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs/guide/imported.md"


def test_the_guide_runs_and_prints_what_it_says(tmp_path: Path) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    (shown,) = re.findall(r"prints\n\n```\n(.*?)```", text, re.S)
    (tmp_path / "model.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "model.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
    assert done.stdout.startswith(shown)
    assert "torch.Size([256, 1])" in done.stdout

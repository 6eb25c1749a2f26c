"""Lets the tests here import the toy that their own subprocesses run as a script."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

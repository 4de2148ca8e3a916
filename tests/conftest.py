"""Makes tests/ a place to import from: `tidy`, `summary`. Tests that send SIGINT mean it, also where a shell's `&` made it ignored."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
signal.signal(signal.SIGINT, signal.default_int_handler)

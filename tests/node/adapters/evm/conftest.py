"""Makes the modules here that are no tests importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from evm_net import net

__all__ = ["net"]

"""In the place of the toolkit of OpenEnv's web pages, which no test looks at."""

import sys
from unittest.mock import MagicMock

sys.modules["gradio"] = MagicMock(name="gradio")

"""uvicorn's own command, without the toolkit of OpenEnv's web pages.

`openenv` imports gradio as it is imported itself, for pages that are served only on request
(ENABLE_WEB_INTERFACE) and that no test looks at. That import is four fifths of a server's start: six
seconds of CPU, on CI for each of some hundred servers. What stands in its place here is never called.
"""

import sys
from unittest.mock import MagicMock

sys.modules["gradio"] = MagicMock(name="gradio")

import uvicorn  # noqa: E402

if __name__ == "__main__":
    uvicorn.main()

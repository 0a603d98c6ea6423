"""OpenEnv's own command, without the toolkit of its web pages (see `serve.py`).

usage: openenv_cli.py ARGUMENTS...
"""

import serve  # noqa: F401  spares the import of gradio

from openenv.cli.__main__ import main

main()

"""Print the project's requirements, less those named on the command line: what an image without torch installs."""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
left_out = set(sys.argv[1:])
for requirement in project["dependencies"]:
    if re.split(r"[^A-Za-z0-9_-]", requirement)[0] not in left_out:
        print(requirement)  # noqa: T201  (its output is what pip reads)

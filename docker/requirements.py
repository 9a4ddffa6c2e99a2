"""Print what an image installs: the project's requirements, less those named, and with those of ``+extra``.

``python docker/requirements.py torch scipy`` leaves two out; ``python docker/requirements.py +transformers`` adds an
optional part of the project. All of it goes to pip in one call with ``constraints.txt``, so that nothing that an extra
asks for can bring another torch.
"""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = [argument.removeprefix("+") for argument in sys.argv[1:] if argument.startswith("+")]
left_out = set(sys.argv[1:])
asked = [*project["dependencies"], *(line for name in extras for line in project["optional-dependencies"][name])]
for requirement in asked:
    if re.split(r"[^A-Za-z0-9_-]", requirement)[0] not in left_out:
        print(requirement)  # noqa: T201  (its output is what pip reads)

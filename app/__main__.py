"""``python -m app``: the console script without its script."""

from app.cli import main

main()

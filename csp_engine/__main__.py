"""``csp``, also ``python -m csp_engine``."""

import sys

from csp_engine.errors import CspError
from csp_engine.printable import one_line


def main() -> None:
    """Run the command line; an extension that cannot be loaded is one sentence, as in a command."""
    try:
        from csp_engine.cli import main as run
    except CspError as error:  # rooms look for extensions while they are imported
        sys.stderr.write(f"csp: {one_line(str(error))}\n")
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()

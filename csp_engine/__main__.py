"""``python -m csp_engine`` is ``csp``."""

from csp_engine.cli import main

if __name__ == "__main__":
    main()

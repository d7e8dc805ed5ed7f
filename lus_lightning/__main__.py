"""`python -m lus_lightning`."""

from lus_lightning.cli import main

if __name__ == "__main__":
    main()

"""`python -m lakehouse`, as the command does."""

from lakehouse.cli.app import main

if __name__ == "__main__":
    main()

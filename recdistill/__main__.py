"""`python -m recdistill`: the command line, where its script is on no path."""

from recdistill.cli.main import main

if __name__ == "__main__":
    main()

"""`python -m sentiflow`: the same as the console script `sentiflow`."""

from sentiflow.cli.program import main

if __name__ == "__main__":
    main()

"""`python -m sentiflow`: the program without its console script."""

from sentiflow.cli.program import main

if __name__ == "__main__":
    main()

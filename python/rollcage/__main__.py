"""``python -m rollcage``: the command line, where no script is on the path."""

from rollcage._program import main

if __name__ == "__main__":
    main()

"""`python -m snnkd`."""

from snnkd.cli import main

if __name__ == "__main__":
    main()

"""`python -m limbeck`, which torchrun and accelerate can start several times."""

from limbeck.cli import main

if __name__ == "__main__":
    main()

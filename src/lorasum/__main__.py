"""python -m lorasum."""

from lorasum.cli import main

main()

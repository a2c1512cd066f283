"""`python -m seqmel`."""

from seqmel.cli.main import main

main()

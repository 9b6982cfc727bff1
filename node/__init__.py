"""The program: command line, client, actors' wiring, adapters and child programs. See README.md."""

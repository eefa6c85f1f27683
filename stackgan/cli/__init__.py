"""Command line: ``main`` has the table of commands; there is one module per command, and shared ones."""

"""The command line: ``main`` has the table of commands, each other module is one command or what commands share."""

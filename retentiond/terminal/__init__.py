"""How the terminal is told: words, tables and bars that the commands and the demo share."""

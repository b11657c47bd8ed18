"""Output to the terminal: words, tables and bars that the commands and the demo share."""

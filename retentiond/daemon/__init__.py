"""The daemon: passes by schedule, sweeps beside them, reload and shutdown. It decides nothing about media itself."""

"""Studies over runs: sweep, store, statistics, trade-off curves, report and the command line."""

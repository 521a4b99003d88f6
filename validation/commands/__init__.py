"""One module a command of `python -m validation`: arguments in, exit code out; the work is done elsewhere."""

"""The HTML page: tables, tabs, traces to explore and the gallery, in one file that needs nothing else."""

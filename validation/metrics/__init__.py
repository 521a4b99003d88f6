"""One module a task; one plain function a metric, reference first, with its formula and source."""

"""Programs whose imports take longer than their work: forked from a process that has imported them already."""

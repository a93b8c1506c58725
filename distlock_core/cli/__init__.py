"""The command-line tools: one file per front end; rendering is separate from doing."""

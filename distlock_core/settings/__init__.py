"""The table of all settings, and how file, environment and arguments are put together. Knows nothing of locks."""

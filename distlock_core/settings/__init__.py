"""The table of all settings, and the merging of file, environment and arguments. Independent of locks."""

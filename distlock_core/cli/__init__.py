"""The commands: one file a front end, rendering apart from doing."""

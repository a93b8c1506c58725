"""Links to `salt/_runners`."""

"""Links to `salt/_modules`."""

"""Links to `salt/_states`."""

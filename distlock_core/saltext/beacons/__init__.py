"""Links to `salt/_beacons`."""

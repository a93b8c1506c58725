"""What keeps a roll-out safe beside the lock itself: checks that say whether there is work."""

"""The tests: folders mirror the packages of distlock_core and the tools around it."""

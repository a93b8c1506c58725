"""The soak: managers and members are killed at random, and a judge looks whether the lock stays one."""

"""The soak test: managers and members are killed at random, and a judge checks mutual exclusion."""

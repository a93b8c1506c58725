"""What a lock costs, measured side by side with other tools in one run: ``python -m bench``."""

"""What tests share: what they start, and how they look at it from outside."""

"""The lock itself: acquiring, waiting, holding, releasing. Knows nothing of commands and tools."""

"""From a task and its data to trained weights."""

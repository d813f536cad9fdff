"""What a run of each task is to the page, one file a task: its sides, its figures, how it is begun."""

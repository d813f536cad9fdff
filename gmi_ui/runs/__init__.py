"""What the worker carries out: works, runs and the jobs of the tasks."""

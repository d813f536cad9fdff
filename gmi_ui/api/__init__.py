"""The studio for programs: named endpoints, one a task, whose runs go through the same queue as those of the page."""

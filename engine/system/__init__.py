"""Files, folders and threads of the machine."""

"""Files: atomic writes of files and folders, split archives, comparison of weights."""

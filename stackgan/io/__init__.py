"""Files: whole folders, atomic writes, split archives."""

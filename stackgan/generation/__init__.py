"""Images and videos from the command line: captions, photos, interpolations."""

"""Generation of image files and videos from captions, photos and interpolations."""

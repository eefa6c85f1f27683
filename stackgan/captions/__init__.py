"""Captions as strings: files of them, the synonym lexicon, augmentation, hard negatives. No torch."""

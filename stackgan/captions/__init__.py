"""Captions as strings: caption files, synonym lexicon, augmentation, hard negatives; without torch."""

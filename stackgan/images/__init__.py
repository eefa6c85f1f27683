"""Image processing: pixels, crops, sheets, PNG files, video."""

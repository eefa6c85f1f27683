"""Images as pixels: sheets, PNG files, video."""

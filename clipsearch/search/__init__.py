"""Words and pictures to ranked hits."""

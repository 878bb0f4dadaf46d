"""What is known of mapped classes: which of them send signals, their attributes and columns."""

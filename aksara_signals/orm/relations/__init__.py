"""The links of relationships that a flush makes or cuts, and the signals that are sent for them."""

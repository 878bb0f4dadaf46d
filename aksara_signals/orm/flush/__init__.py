"""One flush: the prediction of what it writes, and the signals before and after it."""

"""Looking at the connected receivers from outside, for the command line.

The live connections are first read into frozen plain values; tables, graphs and JSON are made of
those. Only names, options and places in source files are shown: never the ``repr`` of a receiver or
a sender, and no values of columns.
"""

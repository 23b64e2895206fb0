"""The library: everything that the programs at the top level are built from."""

"""Bridges to other systems, one module each. One that needs a package has an extra of its name."""

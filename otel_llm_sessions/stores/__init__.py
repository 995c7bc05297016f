"""Where session links are kept: one module per kind of store."""

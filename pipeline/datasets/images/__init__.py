"""Images out of archives and packages: one module a dataset or a family of them."""

"""Images out of archives and packages: one module per dataset or a family of them."""

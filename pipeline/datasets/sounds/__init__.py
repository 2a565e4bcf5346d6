"""Speech and music out of archives and packages: one module per dataset."""

"""File formats that datasets come in, decoded without trust in what they say of themselves."""

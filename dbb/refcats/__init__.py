"""Reference catalogues and other tars of many files: what is in them, and the few members that somebody needs."""

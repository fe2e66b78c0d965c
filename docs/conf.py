"""Settings of the documentation's build: ``./check docs``."""

import spalloc_server

project = "spalloc_server"
author = "The spalloc_server authors"
project_copyright = "The spalloc_server authors, Apache License 2.0"
version = release = spalloc_server.__version__

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"spalloc_server {version}"

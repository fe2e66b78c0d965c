"""Settings of the documentation's build: ``./check docs``. Works without a network."""

import spalloc_server

project = "spalloc_server"
author = "The spalloc_server authors"
project_copyright = "The spalloc_server authors; Apache License 2.0"
version = release = spalloc_server.__version__

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]

# `name` in a docstring is a cross-reference where there is such a name.
default_role = "py:obj"
# Short names (x, board) stand for several things; such a one is then not a link.
suppress_warnings = ["ref.python"]
autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"spalloc_server {version}"
html_copy_source = False

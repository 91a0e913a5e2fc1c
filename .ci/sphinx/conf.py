"""Sphinx configuration: API pages from numpydoc docstrings, guides from the READMEs in Markdown."""

import steerlens_fast

project = "steerlens_fast"
author = "the steerlens_fast authors"
version = release = steerlens_fast.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "numpydoc", "myst_parser"]
html_theme = "furo"
html_title = f"steerlens_fast {version}"
html_show_copyright = False  # the licence is in the README
html_static_path = ["static"]
html_css_files = ["wide-tables.css"]
templates_path = []

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings state shapes and dtypes, which annotations cannot
numpydoc_show_class_members = False  # autoclass lists the members
numpydoc_xref_param_type = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "html_image"]
suppress_warnings = ["myst.header"]  # a README may skip a heading level

"""Ratings of morphs by people.

::

    form    jobs -> candidates (which morphs) -> design (order, balance) -> form.html for raters, key.json
    tally   key.json and the raters' files (answers) -> shares, naturalness, agreement between raters
"""

from .agreement import krippendorff_alpha
from .form import Form, write_form
from .tally import table, tally

__all__ = ["Form", "krippendorff_alpha", "table", "tally", "write_form"]
